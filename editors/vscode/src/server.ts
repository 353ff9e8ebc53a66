/** Finds the server: by settings, on PATH, in the Python extension's environment, or in midspan's own. */

import * as path from 'node:path';
import * as vscode from 'vscode';
import { managedPython } from './install.js';
import { chosen, expanded, isProgram, onPath, probe } from './python.js';
import { settings } from './settings.js';

export interface Server {
  readonly command: string;
  readonly args: readonly string[];
  /** Where it was found, in words. */
  readonly foundBy: string;
  /** The command that upgrades midspan. */
  readonly upgrade: string;
}

/** A setting names a server that is not there; the message is one line that names the fix. */
export class NotFound extends Error {}

/**
 * The server to start; undefined if there is none. Rejects with NotFound if a setting names one that is not there.
 * `told` hears what went wrong in another extension.
 */
export async function findServer(storage: string, told: (line: string) => void): Promise<Server | undefined> {
  return (
    (await fromPathSetting()) ??
    (await fromInterpreterSetting(storage)) ??
    (await fromPath()) ??
    (await fromPythonExtension(storage, told)) ??
    (await fromManaged(storage))
  );
}

function serveArguments(): string[] {
  const own = ['serve'];
  const checkpoint = settings().get<string>('checkpoint', '');
  const device = settings().get<string>('device', 'auto');
  if (checkpoint) {
    own.push('--checkpoint', expanded(checkpoint));
  }
  return device === 'auto' ? own : [...own, '--device', device];
}

async function fromPathSetting(): Promise<Server | undefined> {
  const named = settings().get<string | string[]>('path', '');
  if (named.length === 0) {
    return undefined;
  }
  const [first = '', ...rest] = typeof named === 'string' ? [named] : named;
  const command = expanded(first);
  const found = path.isAbsolute(command) ? (await isProgram(command)) && command : await onPath(command);
  if (!found) {
    throw new NotFound(`midspan.path: there is no program ${first}; correct the setting or empty it`);
  }
  const args = typeof named === 'string' ? serveArguments() : rest;
  return { command: found, args, foundBy: 'the setting midspan.path', upgrade: 'python -m pip install --upgrade midspan' };
}

async function fromInterpreterSetting(storage: string): Promise<Server | undefined> {
  const named = settings().get<string>('interpreter', '');
  if (!named) {
    return undefined;
  }
  const python = await probe(expanded(named), storage);
  if (python === undefined) {
    throw new NotFound(`midspan.interpreter: ${named} is no Python that starts; correct the setting or empty it`);
  }
  if (python.hasMidspan) {
    return inPython(python.path, 'the setting midspan.interpreter');
  }
  const own = await managedPython(storage, named);
  if (own === undefined) {
    const fix = `run ${named} -m pip install midspan, or set up an environment made with it`;
    throw new NotFound(`midspan.interpreter: ${named} has no midspan; ${fix}`);
  }
  return inPython(own, 'the environment that midspan set up with midspan.interpreter');
}

async function fromPath(): Promise<Server | undefined> {
  const command = await onPath('midspan');
  const upgrade = 'python -m pip install --upgrade midspan';
  return command === undefined ? undefined : { command, args: serveArguments(), foundBy: 'PATH', upgrade };
}

async function fromPythonExtension(storage: string, told: (line: string) => void): Promise<Server | undefined> {
  // The environment is often inside the folder: if the folder is not trusted, neither is that Python.
  if (!vscode.workspace.isTrusted) {
    return undefined;
  }
  // An extension that is not ours and fails must not keep midspan from its own environment.
  const named = await chosen().catch((error: unknown) => told(`the Python extension names no environment: ${String(error)}`));
  const python = named && (await probe(named.executable, storage, named.args));
  return named && python?.hasMidspan ? inPython(python.path, "the Python extension's environment", named.args) : undefined;
}

async function fromManaged(storage: string): Promise<Server | undefined> {
  const python = await managedPython(storage);
  return python === undefined ? undefined : inPython(python, 'the environment that midspan set up');
}

function inPython(python: string, foundBy: string, args: readonly string[] = []): Server {
  const upgrade = `${[python, ...args].join(' ')} -m pip install --upgrade midspan`;
  return { command: python, args: [...args, '-m', 'midspan.server', ...serveArguments()], foundBy, upgrade };
}
