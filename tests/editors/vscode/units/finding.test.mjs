// Where the server is looked for, in which order, with real programs: the settings, PATH, Python extensions, our own.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { findServer, NotFound } from '../../../../editors/vscode/src/server.ts';
import { reset, scene, Uri, workspace } from './vscode.mjs';

const NEWER = 'ms-python.vscode-python-envs';
const OLDER = 'ms-python.python';
const WITH = '[3, 12, true]';
const WITHOUT = '[3, 12, false]';
let home, bin, storage, found, told;

beforeEach(() => {
  reset();
  home = mkdtempSync(path.join(tmpdir(), 'midspan-finding-'));
  [bin, storage] = ['bin', 'storage'].map((name) => path.join(home, name));
  found = process.env.PATH;
  process.env.PATH = bin;
  for (const folder of [bin, storage]) mkdirSync(folder);
  told = [];
});

afterEach(() => {
  process.env.PATH = found;
  rmSync(home, { recursive: true });
});

/** A program that prints one line; with `first` only if that is its first argument. */
function program(file, line, first) {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${first ? `[ "$1" = ${first} ] || exit 1\n` : ''}echo '${line}'\n`);
  chmodSync(file, 0o755);
  return file;
}

const python = (name, line = WITH) => program(path.join(home, name, 'python'), line);
const find = () => findServer(storage, (line) => told.push(line));

/** midspan's own environment, complete, made with the interpreter that the setting named then. */
function ownEnvironment(by = '') {
  const folder = path.join(storage, 'environment');
  program(path.join(folder, 'bin/python'), WITH);
  writeFileSync(path.join(folder, 'complete'), by);
  return path.join(folder, 'bin/python');
}

/** What the newer extension exports: an environment for each folder. */
function newer(run, asked = []) {
  scene.extensions[NEWER] = async () => ({ getEnvironment: async (scope) => (asked.push(scope), run && { execInfo: { run } }) });
}

/** What the older extension exports: the path of an environment, and then what is in it. */
function older(executable) {
  const environments = {
    getActiveEnvironmentPath: () => ({ path: '/named' }),
    resolveEnvironment: async ({ path }) => (path === '/named' ? { executable: { uri: executable && Uri.file(executable) } } : undefined),
  };
  scene.extensions[OLDER] = async () => ({ environments });
}

async function foundBy() {
  return (await find())?.foundBy;
}

test('the order: path, interpreter, PATH, the Python extension, our own environment; then none', async () => {
  scene.settings = { path: program(path.join(home, 'named'), ''), interpreter: python('setting') };
  program(path.join(bin, 'midspan'), '');
  newer({ executable: python('chosen') });
  ownEnvironment();
  assert.equal(await foundBy(), 'the setting midspan.path');
  scene.settings.path = '';
  assert.equal(await foundBy(), 'the setting midspan.interpreter');
  scene.settings.interpreter = '';
  assert.equal(await foundBy(), 'PATH');
  rmSync(path.join(bin, 'midspan'));
  assert.equal(await foundBy(), "the Python extension's environment");
  scene.extensions = {};
  assert.equal(await foundBy(), 'the environment that midspan set up');
  rmSync(path.join(storage, 'environment'), { recursive: true });
  assert.equal(await find(), undefined);
});

test('a Python is started with its module, the checkpoint and the device', async () => {
  const command = python('chosen');
  newer({ executable: command });
  scene.settings = { checkpoint: 'some/model', device: 'cpu' };
  const { upgrade, ...server } = await find();
  assert.deepEqual([server.command, server.args], [
    command,
    ['-m', 'midspan.server', 'serve', '--checkpoint', 'some/model', '--device', 'cpu'],
  ]);
  assert.equal(upgrade, `${command} -m pip install --upgrade midspan`);
});

test('the newer extension is asked for the first folder, and its arguments come before ours', async () => {
  const asked = [];
  const launcher = program(path.join(home, 'launcher/py'), WITH, '-3.12');
  newer({ executable: launcher, args: ['-3.12'] }, asked);
  workspace.workspaceFolders = [{ uri: Uri.file('/project') }, { uri: Uri.file('/second') }];
  const server = await find();
  assert.deepEqual([server.command, ...server.args], [launcher, '-3.12', '-m', 'midspan.server', 'serve']);
  assert.equal(server.upgrade, `${launcher} -3.12 -m pip install --upgrade midspan`);
  assert.deepEqual(asked.map(String), ['file:///project']);
});

test('the older extension is asked where the newer one is not there, is off, or names none', async () => {
  older(python('older'));
  const states = [undefined, async () => null, async () => ({ getEnvironment: async () => undefined })];
  for (const state of states) {
    scene.extensions[NEWER] = state;
    const server = await find();
    assert.equal(server.command, path.join(home, 'older/python'));
  }
  newer({ executable: python('newer') });
  assert.equal((await find()).command, path.join(home, 'newer/python'));
});

test('an environment without midspan, without a Python, or that is none is passed over', async () => {
  const own = ownEnvironment();
  newer({ executable: python('without', WITHOUT) });
  assert.equal((await find()).command, own);
  newer({ executable: '/nowhere/python' });
  assert.equal((await find()).command, own);
  scene.extensions = {};
  older(undefined);
  assert.equal((await find()).command, own);
});

test('an extension that fails is told of, and keeps nobody from our own environment', async () => {
  const own = ownEnvironment();
  scene.extensions[NEWER] = async () => {
    throw new Error('it broke');
  };
  assert.equal((await find()).command, own);
  assert.deepEqual(told, ['the Python extension names no environment: Error: it broke']);
});

test('a folder that is not trusted names no Python', async () => {
  workspace.isTrusted = false;
  let asked = false;
  scene.extensions[NEWER] = async () => {
    asked = true;
  };
  assert.equal(await find(), undefined);
  assert.equal(asked, false);
});

test('an interpreter without midspan is named with the fix, until an environment is made with it', async () => {
  const named = (scene.settings.interpreter = python('plain', WITHOUT));
  const line = `midspan.interpreter: ${named} has no midspan; run ${named} -m pip install midspan, or set up an environment made with it`;
  await assert.rejects(find, (error) => error instanceof NotFound && error.message === line);
  ownEnvironment();
  await assert.rejects(find, NotFound);
  const own = ownEnvironment(named);
  assert.equal((await find()).command, own);
  assert.equal(await foundBy(), 'the environment that midspan set up with midspan.interpreter');
});

test('an interpreter or a program that is not there is named with the setting', async () => {
  scene.settings.interpreter = '/nowhere/python';
  await assert.rejects(find, { message: 'midspan.interpreter: /nowhere/python is no Python that starts; correct the setting or empty it' });
  scene.settings.path = 'nosuch';
  await assert.rejects(find, { message: 'midspan.path: there is no program nosuch; correct the setting or empty it' });
});

test("a relative folder on PATH is not looked into: a project's own program could lie there", async () => {
  const before = process.cwd();
  process.chdir(home);
  try {
    program(path.join(home, 'relative/midspan'), '');
    process.env.PATH = `relative${path.delimiter}${bin}`;
    assert.equal(await find(), undefined);
  } finally {
    process.chdir(before);
  }
});
