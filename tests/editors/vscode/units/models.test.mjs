// The choice of a model, from what the server's program lists.
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { chooseModel } from '../../../../editors/vscode/src/models.ts';
import { reset, scene } from './vscode.mjs';

const MODEL = { name: 'embedded', checkpoint: 'embedded', program: 'midspan', licence: 'Apache-2.0', problem: null, chosen: true };
const OTHER = { name: 'granite', checkpoint: '/m/granite.gguf', program: 'llama.cpp', licence: null, problem: null, chosen: false };
const BROKEN = { ...OTHER, name: 'broken', problem: 'cut short' };
const FETCH = [
  { get: 'midspan models get small', fits: true },
  { get: 'midspan models get huge', fits: false },
];
let home;

beforeEach(() => {
  reset();
  home = mkdtempSync(path.join(tmpdir(), 'midspan-models-'));
});

afterEach(() => rmSync(home, { recursive: true }));

/** A program that lists these, where it is asked as the extension asks. */
function server(listed) {
  const command = path.join(home, 'midspan');
  const asked = 'models --checkpoint granite --json --no-estimate';
  writeFileSync(command, `#!/bin/sh\n[ "$*" = '${asked}' ] || { echo "asked $*" >&2; exit 2; }\necho '${JSON.stringify(listed)}'\n`);
  chmodSync(command, 0o755);
  return { command, args: ['serve', '--checkpoint', 'granite'], foundBy: '', upgrade: '' };
}

const labels = () => scene.offered.items.map((item) => item.label);

test('models that run are offered, the one in use is marked, and what can be fetched is named', async () => {
  await chooseModel(server({ at_hand: [MODEL, OTHER, BROKEN], to_fetch: FETCH }), home, () => assert.fail());
  assert.deepEqual(labels(), [
    '$(check) embedded',
    'granite',
    'more',
    '$(settings-gear) Another, and the device',
    '$(cloud-download) Others to fetch in a terminal',
  ]);
  const [embedded, granite] = scene.offered.items;
  assert.deepEqual([embedded.description, granite.description], ['midspan; licence: Apache-2.0', 'llama.cpp; licence: not stated']);
  assert.equal(scene.offered.items.at(-1).detail, 'midspan models get small');
  assert.deepEqual(scene.settings, {});
});

test('the chosen model is set where it was set: for the workspace, or for the user', async () => {
  scene.choose = (item) => item.label === 'granite';
  const found = server({ at_hand: [MODEL, OTHER], to_fetch: [] });
  await chooseModel(found, home, () => assert.fail());
  assert.deepEqual([scene.settings, scene.inWorkspace], [{ checkpoint: OTHER.checkpoint }, {}]);
  scene.inWorkspace.checkpoint = 'earlier';
  await chooseModel(found, home, () => assert.fail());
  assert.equal(scene.inWorkspace.checkpoint, OTHER.checkpoint);
});

test('settings are opened for another one, and where the command itself chooses nothing is offered', async () => {
  scene.choose = (item) => /Another/.test(item.label);
  let opened = 0;
  const found = server({ at_hand: [MODEL], to_fetch: [] });
  await chooseModel(found, home, () => ++opened);
  assert.equal(opened, 1);
  delete scene.offered;
  scene.settings.path = ['python', '-m', 'midspan.server', 'serve'];
  await chooseModel(found, home, () => ++opened);
  assert.deepEqual([opened, scene.offered, scene.told], [1, undefined, [
    'midspan: the command in midspan.path chooses the model; add --checkpoint to it',
  ]]);
});
