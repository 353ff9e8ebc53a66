// The set-up that the packaged extension offers on a machine with a Python and without midspan.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, test } from 'node:test';
import { PYTHON, until, Workbench } from './workbench.mjs';

const PATIENCE_MS = 600_000;
const FILES = { 'a.py': 'def show(names):\n    for name in names:\n        print(name)\n\n\ndef twice(names):\n    for name in\n' };
let workbench;

afterEach((context) => workbench?.pictureOf(context));

after(() => workbench?.stop());

/** Sets PATH to the system's tools and this Python; its midspan is not on it. */
function onlyPython(of) {
  const folder = path.join(of.home, 'bin');
  mkdirSync(folder);
  symlinkSync(process.env.MIDSPAN_BASE_PYTHON ?? PYTHON, path.join(folder, 'python3.11'));
  of.environment.PATH = `${folder}:/usr/bin:/bin`;
  return { 'midspan.show_threshold': 0 };
}

test('a cancelled set-up leaves nothing; a completed one shows its progress and ends with ghost text', async () => {
  workbench = await Workbench.start({ files: FILES, settings: onlyPython });
  await workbench.open('a.py', 7, 16);
  const storage = path.join(workbench.home, 'data/User/globalStorage/midspan.midspan');
  const button = (name) => workbench.page.getByRole('button', { name, exact: true });
  await workbench.notified('midspan needs its server');
  await button('Set Up').click();
  await workbench.notified('installing');
  await button('Cancel').click();
  await workbench.notified('midspan: the set-up was cancelled');
  assert.equal(existsSync(path.join(storage, 'environment/complete')), false);

  const began = Date.now();
  const messages = new Set();
  await button('Try Again').click();
  await until('the environment is there', async () => {
    for (const text of await workbench.page.locator('.notification-list-item-message').allTextContents()) messages.add(text);
    assert.ok(![...messages].some((one) => /could not/.test(one)), [...messages].join('\n'));
    return existsSync(path.join(storage, 'environment/complete'));
  }, PATIENCE_MS);
  await workbench.ready();
  await workbench.type(' ');
  await until('there is ghost text', () => workbench.ghost());
  await workbench.picture('installed');
  console.log(`set up and first ghost text: ${((Date.now() - began) / 1000).toFixed(0)} s`);
  console.log([...messages].join('\n'));
  assert.ok([...messages].some((one) => /MB left|installing midspan/.test(one)), [...messages].join('\n'));
});
