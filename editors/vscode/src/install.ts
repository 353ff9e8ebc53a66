/** midspan's own Python environment in VS Code's global storage: made on request, with progress; can be cancelled. */

import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { Pip } from './pip.js';
import { best, expanded, isNewEnough, OLDEST, onPath, output, type Python, probe } from './python.js';
import { settings } from './settings.js';

const GIGABYTE = 1e9;
/** Bytes that the environment needs while it is installed, with torch for the CPU and with torch for a GPU. */
const NEEDED = { cpu: 2 * GIGABYTE, cuda: 9 * GIGABYTE };
/** uv may have to fetch a Python first. */
const ENVIRONMENT_MS = 300_000;
const CPU_INDEX = 'https://download.pytorch.org/whl/cpu';

/** No environment can be made; the message is one line that names the fix. */
export class CannotInstall extends Error {}

function folderOf(storage: string): string {
  return path.join(storage, 'environment');
}

function pythonIn(folder: string): string {
  return process.platform === 'win32' ? path.join(folder, 'Scripts', 'python.exe') : path.join(folder, 'bin', 'python');
}

function markOf(storage: string): string {
  return path.join(folderOf(storage), 'complete');
}

/** The Python of midspan's own environment; undefined until one is complete, made `by` this interpreter if one is given. */
export async function managedPython(storage: string, by?: string): Promise<string | undefined> {
  const mark = markOf(storage);
  const fits = existsSync(mark) && (by === undefined || (await readFile(mark, 'utf8')) === by);
  return fits ? pythonIn(folderOf(storage)) : undefined;
}

/** Makes the environment. Rejects with CannotInstall, with pip's error, or when the user cancels. */
export async function install(context: vscode.ExtensionContext, log: vscode.LogOutputChannel): Promise<void> {
  const storage = context.globalStorageUri.fsPath;
  const options = { location: vscode.ProgressLocation.Notification, title: 'midspan', cancellable: true };
  await vscode.window.withProgress(options, async (progress, token) => {
    progress.report({ message: 'looking for Python' });
    const cuda = await hasNvidia(storage);
    await checkSpace(storage, cuda ? NEEDED.cuda : NEEDED.cpu);
    await remove(folderOf(storage));
    try {
      progress.report({ message: 'making an environment' });
      await makeEnvironment(storage, log, token);
      const pip = new Pip(pythonIn(folderOf(storage)), storage, log, progress, token);
      await fill(pip, storage, path.join(context.extensionPath, 'bundled'), cuda);
    } catch (error) {
      // Half an environment is of no use, and may take a gigabyte.
      await remove(folderOf(storage));
      throw error;
    }
  });
}

function remove(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

async function fill(pip: Pip, storage: string, bundled: string, cuda: boolean): Promise<void> {
  const constraints = ['--constraint', path.join(bundled, 'constraints.txt')];
  await pip.run('pip', ['--upgrade', 'pip']);
  await pip.run('torch, most of the download', [...constraints, ...(await torchFrom(storage, cuda)), 'torch']);
  await pip.run('midspan', [...constraints, await wheelIn(bundled)]);
  await writeFile(markOf(storage), interpreterSetting());
}

function interpreterSetting(): string {
  return settings().get<string>('interpreter', '');
}

async function wheelIn(bundled: string): Promise<string> {
  const wheel = (await readdir(bundled)).find((file) => /\.(whl|tar\.gz)$/.test(file));
  if (wheel === undefined) {
    throw new CannotInstall('this build of the extension has no midspan in it; set midspan.interpreter instead');
  }
  return path.join(bundled, wheel);
}

async function makeEnvironment(
  storage: string,
  log: vscode.LogOutputChannel,
  token: vscode.CancellationToken,
): Promise<void> {
  const uv = await onPath('uv');
  const [command, args] = uv === undefined ? await byVenv(storage) : await byUv(uv, storage);
  log.info(`${command} ${args.join(' ')}`);
  const ending = new AbortController();
  const cancelling = token.onCancellationRequested(() => ending.abort());
  try {
    await output(command, args, storage, ENVIRONMENT_MS, ending.signal);
  } catch (error) {
    if (token.isCancellationRequested) {
      throw new vscode.CancellationError();
    }
    const hint = uv === undefined && process.platform === 'linux' ? '; on Debian and Ubuntu: sudo apt install python3-venv' : '';
    throw new CannotInstall(`${command} could not make an environment (${reason(error)})${hint}`);
  } finally {
    cancelling.dispose();
  }
}

async function byVenv(storage: string): Promise<[string, string[]]> {
  return [(await usablePython(storage)).path, ['-m', 'venv', folderOf(storage)]];
}

/** uv can fetch a Python as well. Packages are installed by pip, which reports its progress. */
async function byUv(uv: string, storage: string): Promise<[string, string[]]> {
  const python = interpreterSetting() ? (await usablePython(storage)).path : `>=${OLDEST.join('.')}`;
  return [uv, ['venv', '--seed', '--python', python, folderOf(storage)]];
}

/** The last line that a program which failed has said; else what is known of it. */
function reason(error: unknown): string {
  const { stderr = '' } = error as { stderr?: string };
  return stderr.trim().split('\n').at(-1) || (String(error).split('\n')[0] ?? '');
}

async function usablePython(storage: string): Promise<Python> {
  const named = interpreterSetting();
  const found = named ? await probe(expanded(named), storage) : await best(storage);
  if (!found && named) {
    throw new CannotInstall(`midspan.interpreter: ${named} is no Python that starts; correct the setting or empty it`);
  }
  const wanted = `midspan needs Python ${OLDEST.join('.')} or newer`;
  if (!found) {
    throw new CannotInstall(`${wanted}, and there is no Python on PATH: install one, or name it in midspan.interpreter`);
  }
  if (!isNewEnough(found)) {
    const have = `${found.path} is ${found.version.join('.')}`;
    throw new CannotInstall(`${wanted}, and ${have}: install a newer one, or name it in midspan.interpreter`);
  }
  return found;
}

async function checkSpace(storage: string, needed: number): Promise<void> {
  await mkdir(storage, { recursive: true });
  const { bavail, bsize } = await statfs(storage);
  const free = bavail * bsize;
  if (free < needed) {
    const sizes = `${(needed / GIGABYTE).toFixed(0)} GB are needed, ${(free / GIGABYTE).toFixed(1)} GB are free`;
    throw new CannotInstall(`too little space in ${storage}: ${sizes}; make room and try again`);
  }
}

async function hasNvidia(storage: string): Promise<boolean> {
  const program = await onPath('nvidia-smi');
  return program !== undefined && output(program, ['--list-gpus'], storage).then(Boolean, () => false);
}

/** pip's options for torch: on Linux the default build is for GPUs and five times as large. A configured index wins. */
async function torchFrom(storage: string, cuda: boolean): Promise<string[]> {
  if (process.platform !== 'linux' || cuda) {
    return [];
  }
  const configured = await output(pythonIn(folderOf(storage)), ['-m', 'pip', 'config', 'list'], storage);
  return /index-url|find-links/.test(configured) ? [] : ['--index-url', CPU_INDEX];
}
