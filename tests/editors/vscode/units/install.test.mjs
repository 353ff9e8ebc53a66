// The set-up with real programs: scripts in place of uv, of Python and of nvidia-smi, on a PATH that has nothing else.
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { CannotInstall, install, managedPython } from '../../../../editors/vscode/src/install.ts';
import { CancellationError, reset, scene } from './vscode.mjs';

const GIGABYTE = 1e9;
const PROBED = '[3, 12, false]';
let home, bin, storage, calls, found;

beforeEach(() => {
  reset();
  home = mkdtempSync(path.join(tmpdir(), 'midspan-install-'));
  [bin, storage, calls] = ['bin', 'storage', 'calls'].map((name) => path.join(home, name));
  found = process.env.PATH;
  process.env.PATH = bin;
  const bundled = path.join(home, 'extension/bundled');
  for (const folder of [bin, storage, bundled]) mkdirSync(folder, { recursive: true });
  for (const file of ['constraints.txt', 'midspan-0.1.0.tar.gz']) writeFileSync(path.join(bundled, file), '');
  writeFileSync(calls, '');
});

afterEach(() => {
  process.env.PATH = found;
  rmSync(home, { recursive: true });
});

/** A program that notes how it was called. What it has been asked is `$*`, the last argument `$last`. */
function program(file, ...lines) {
  mkdirSync(path.dirname(file), { recursive: true });
  const note = `echo "${path.relative(home, file)} $*" >>'${calls}'`;
  writeFileSync(file, ['#!/bin/sh', 'PATH=/usr/bin:/bin', note, 'for last; do :; done', ...lines, ''].join('\n'));
  chmodSync(file, 0o755);
  return file;
}

/** Lines of a program that makes an environment in its last argument, whose pip says these lines. */
function makes(pip = []) {
  const inside = path.join(home, 'inside');
  program(inside, ...pip);
  return [`mkdir -p "$last/bin"`, `cp '${inside}' "$last/bin/python"`];
}

function python(name, version, ...lines) {
  return program(path.join(bin, name), `case "$1" in -c) echo '${version}'; exit;; esac`, ...lines);
}

function called(pattern) {
  return readFileSync(calls, 'utf8').split('\n').filter((line) => pattern.test(line));
}

const log = { info: (line) => appendFileSync(path.join(home, 'log'), `${line}\n`) };

function run() {
  return install({ globalStorageUri: { fsPath: storage }, extensionPath: path.join(home, 'extension') }, log);
}

const environment = () => path.join(storage, 'environment');

test('uv makes the environment where it is there, with a Python that it may fetch', async () => {
  program(path.join(bin, 'uv'), ...makes());
  python('python3.12', PROBED, ...makes());
  await run();
  assert.deepEqual(called(/^bin\/uv/), [`bin/uv venv --seed --python >=3.11 ${environment()}`]);
  assert.deepEqual(called(/^bin\/python/), []);
  assert.equal(await managedPython(storage), path.join(environment(), 'bin/python'));
});

test('uv takes the interpreter that the setting names', async () => {
  program(path.join(bin, 'uv'), ...makes());
  const named = python('python3.12', PROBED);
  scene.settings.interpreter = named;
  await run();
  assert.deepEqual(called(/^bin\/uv/), [`bin/uv venv --seed --python ${named} ${environment()}`]);
  assert.equal(await managedPython(storage, named), path.join(environment(), 'bin/python'));
  assert.equal(await managedPython(storage, '/another/python'), undefined);
});

test("without uv the newest Python's venv makes it", async () => {
  python('python3.11', '[3, 11, false]', ...makes());
  python('python3.12', PROBED, ...makes());
  await run();
  assert.deepEqual(called(/-m venv/), [`bin/python3.12 -m venv ${environment()}`]);
  assert.equal(existsSync(path.join(environment(), 'complete')), true);
});

test('pip gets the tested versions, PyTorch for the CPU, and midspan from the extension', async () => {
  python('python3.12', PROBED, ...makes());
  await run();
  const bundled = path.join(home, 'extension/bundled');
  const pip = called(/ -m pip install /).map((line) => line.split('pip install --disable-pip-version-check ')[1]);
  const raw = `--progress-bar raw --constraint ${bundled}/constraints.txt`;
  assert.deepEqual(pip, [
    '--upgrade pip',
    `${raw} --index-url https://download.pytorch.org/whl/cpu torch`,
    `${raw} ${bundled}/midspan-0.1.0.tar.gz`,
  ]);
});

test("a GPU takes PyTorch's own build, and a configured index wins over the CPU's", async () => {
  const isTorch = / torch$/;
  python('python3.12', PROBED, ...makes(['case "$*" in "-m pip config list") echo "global.index-url=\'https://pypi.example\'";; esac']));
  await run();
  assert.doesNotMatch(called(isTorch)[0], /--index-url/);
  python('python3.12', PROBED, ...makes());
  program(path.join(bin, 'nvidia-smi'), 'echo "GPU 0: a GPU"');
  await run();
  assert.equal(called(isTorch).length, 2);
  assert.doesNotMatch(called(isTorch)[1], /--index-url/);
});

for (const [gpu, needed, free] of [[false, '2 GB', 1.9], [true, '9 GB', 8.9]]) {
  test(`space for ${needed} is asked for before anything is made${gpu ? ', as a GPU needs it' : ''}`, async () => {
    if (gpu) program(path.join(bin, 'nvidia-smi'), 'echo "GPU 0: a GPU"');
    program(path.join(bin, 'uv'), ...makes());
    python('python3.12', PROBED, ...makes());
    mkdirSync(path.join(environment(), 'earlier'), { recursive: true });
    scene.free = free * GIGABYTE;
    const line = `too little space in ${storage}: ${needed} are needed, ${free} GB are free; make room and try again`;
    await assert.rejects(run, (error) => error instanceof CannotInstall && error.message === line);
    assert.deepEqual(called(/uv|python/), []);
    assert.equal(existsSync(path.join(environment(), 'earlier')), true);
    scene.free = needed.split(' ')[0] * GIGABYTE + 4096;
    await run();
  });
}

test('a set-up that fails says what pip said, and leaves nothing behind', async () => {
  const fails = 'case "$last" in torch) printf "ERROR: No matching distribution found for torch\\nERROR: for help visit the manual\\n" >&2; exit 1;; esac';
  python('python3.12', PROBED, ...makes([fails]));
  await assert.rejects(run, { message: /^pip could not install torch.*ERROR: No matching distribution found for torch$/ });
  assert.equal(existsSync(environment()), false);
});

test('a set-up that is cancelled ends pip, and leaves nothing behind', async () => {
  python('python3.12', PROBED, ...makes(['case "$last" in torch) exec sleep 60;; esac']));
  scene.onProgress = (message, source) => /torch/.test(message) && source.cancel();
  await assert.rejects(run, CancellationError);
  assert.equal(existsSync(environment()), false);
});

test('a set-up can be cancelled while uv fetches a Python', async () => {
  program(path.join(bin, 'uv'), ...makes(), 'exec sleep 60');
  let watcher;
  scene.onProgress = (message, source) => (watcher ??= watch(calls, () => source.cancel()));
  await assert.rejects(run, CancellationError);
  watcher.close();
  assert.equal(called(/uv venv/).length, 1);
  assert.equal(existsSync(environment()), false);
});

test('a uv that fails is quoted, and nobody is sent to install python3-venv', async () => {
  program(path.join(bin, 'uv'), 'echo "error: No interpreter found for Python >=3.11" >&2', 'exit 2');
  const line = `${path.join(bin, 'uv')} could not make an environment (error: No interpreter found for Python >=3.11)`;
  await assert.rejects(run, { message: line });
});

test('a Python without venv is told how to get it', async () => {
  python('python3.12', PROBED, 'exit 1');
  await assert.rejects(run, { message: /python3\.12 could not make an environment .*sudo apt install python3-venv$/ });
});

test('a setting that names no Python is refused, whatever else is on PATH', async () => {
  python('python3.12', PROBED, ...makes());
  scene.settings.interpreter = '/nowhere/python';
  const line = 'midspan.interpreter: /nowhere/python is no Python that starts; correct the setting or empty it';
  await assert.rejects(run, { message: line });
});

test('what pip fetches is shown with what is left', async () => {
  const bytes = ['echo "Collecting torch==2.13"', 'echo "Progress 50000000 of 200000000"', 'echo "Installing collected packages: torch"'];
  python('python3.12', PROBED, ...makes([`case "$last" in torch) ${bytes.join('; ')};; esac`]));
  await run();
  assert.deepEqual(scene.progress.filter((message) => /torch/.test(message)), [
    'installing torch, most of the download',
    'installing torch, most of the download: torch',
    'fetching torch: 50 of 200 MB, 150 MB left',
    'unpacking torch, most of the download',
  ]);
});
