/** Finds Pythons on this machine, their versions, and whether midspan is installed in them; runs programs. */

import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { homedir } from 'node:os';
import * as path from 'node:path';
import * as vscode from 'vscode';

export const OLDEST: readonly [number, number] = [3, 11];
const PROBE =
  'import importlib.util as u, json, sys; ' +
  'print(json.dumps([sys.version_info[0], sys.version_info[1], u.find_spec("midspan") is not None]))';
const PATIENCE_MS = 20_000;

export interface Python {
  readonly path: string;
  readonly version: readonly [number, number];
  readonly hasMidspan: boolean;
}

/** A program's standard output. Rejects if it cannot be started, fails, takes too long, or is ended by the signal. */
export function output(
  command: string,
  args: readonly string[],
  cwd: string,
  timeout = PATIENCE_MS,
  signal?: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, [...args], { cwd, timeout, windowsHide: true, ...(signal && { signal }) }, (error, stdout, stderr) => {
      if (error) {
        reject(Object.assign(error, { stdout, stderr }));
      } else {
        resolve(stdout);
      }
    });
  });
}

/**
 * A Python's version and whether it has midspan; undefined if it is none. Python imports from `cwd`: give our folder.
 * `args` come before Python's own, where a program such as `py` starts it.
 */
export async function probe(python: string, cwd: string, args: readonly string[] = []): Promise<Python | undefined> {
  try {
    const told = await output(python, [...args, '-c', PROBE], cwd);
    const [major, minor, hasMidspan] = JSON.parse(told) as [number, number, boolean];
    return { path: python, version: [major, minor], hasMidspan };
  } catch {
    return undefined;
  }
}

export function isNewEnough(python: Python): boolean {
  const [major, minor] = python.version;
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

export function expanded(file: string): string {
  return file === '~' || file.startsWith('~/') ? path.join(homedir(), file.slice(1)) : file;
}

/** The path of a program; undefined if it is not on PATH. */
export async function onPath(program: string): Promise<string | undefined> {
  const endings = process.platform === 'win32' ? ['.exe', '.cmd', '.bat'] : [''];
  // A relative entry would depend on the folder that VS Code was started in.
  for (const folder of (process.env['PATH'] ?? '').split(path.delimiter).filter((one) => path.isAbsolute(one))) {
    for (const ending of endings) {
      const file = path.join(folder, program + ending);
      if (await isProgram(file)) {
        return file;
      }
    }
  }
  return undefined;
}

export async function isProgram(file: string): Promise<boolean> {
  try {
    await access(file, process.platform === 'win32' ? constants.F_OK : constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** How an interpreter is started: a program, and its arguments before Python's own. */
export interface Interpreter {
  readonly executable: string;
  readonly args?: readonly string[];
}

interface EnvironmentsExtension {
  getEnvironment(scope: vscode.Uri | undefined): Promise<{ execInfo: { run: Interpreter } } | undefined>;
}

interface PythonExtension {
  environments: {
    getActiveEnvironmentPath(scope: vscode.Uri | undefined): { path: string };
    resolveEnvironment(path: { path: string }): Promise<{ executable: { uri?: vscode.Uri } } | undefined>;
  };
}

/** The interpreter that the user has chosen in one of Microsoft's Python extensions; undefined if there is none. */
export async function chosen(): Promise<Interpreter | undefined> {
  const scope = vscode.workspace.workspaceFolders?.[0]?.uri;
  const environments = vscode.extensions.getExtension<EnvironmentsExtension | null>('ms-python.vscode-python-envs');
  // The extension exports nothing if the user has not switched it on.
  const newer = await environments?.activate();
  const found = await newer?.getEnvironment(scope);
  if (found !== undefined) {
    return found.execInfo.run;
  }
  const older = await vscode.extensions.getExtension<PythonExtension>('ms-python.python')?.activate();
  const active = older?.environments.getActiveEnvironmentPath(scope);
  const resolved = active && (await older?.environments.resolveEnvironment(active));
  const executable = resolved?.executable.uri?.fsPath;
  return executable === undefined ? undefined : { executable };
}

/** The newest Python on PATH that can run midspan; else the first that is too old; undefined if there is none. */
export async function best(cwd: string): Promise<Python | undefined> {
  const names = ['python3.14', 'python3.13', 'python3.12', 'python3.11', 'python3', 'python'];
  let old: Python | undefined;
  for (const name of names) {
    const file = await onPath(name);
    const python = file === undefined ? undefined : await probe(file, cwd);
    if (python !== undefined && isNewEnough(python)) {
      return python;
    }
    old ??= python;
  }
  return old;
}
