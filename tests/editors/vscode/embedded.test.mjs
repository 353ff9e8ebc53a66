// The packaged extension with the real server and the embedded model; also makes the extension's picture.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { environment, PYTHON, ROOT, until, Workbench } from './workbench.mjs';

const TEXT = readFileSync(path.join(ROOT, 'fixtures/demo/inventory.py'), 'utf8');
const BEGUN = `${TEXT}\n\ndef names_of(items):\n    for item in`;
let workbench;

before(async () => {
  const settings = () => ({ 'midspan.interpreter': PYTHON, 'midspan.show_threshold': 0 });
  workbench = await Workbench.start({ files: { 'inventory.py': `${BEGUN}\n` }, settings, environment });
  const lines = BEGUN.split('\n');
  await workbench.open('inventory.py', lines.length, lines.at(-1).length + 1);
  await workbench.ready();
});

afterEach((context) => workbench?.pictureOf(context));

after(() => workbench?.stop());

test('the embedded model fills in a real file', async () => {
  await workbench.type(' ');
  const ghost = await until('there is ghost text', () => workbench.ghost());
  await workbench.picture('vscode');
  await workbench.press('Tab');
  await workbench.saved(`${BEGUN} ${ghost}\n`);
});

test('the doctor says what runs', async () => {
  await workbench.run('midspan: Doctor');
  await workbench.page.locator('.view-line', { hasText: 'all is well' }).waitFor({ timeout: 120_000 });
});

test('the report is a page without scripts', async () => {
  await workbench.run('midspan: Report');
  const frame = workbench.page.frameLocator('iframe.webview.ready').frameLocator('iframe');
  await frame.getByText('offered').first().waitFor();
  const policy = await frame.locator('meta[http-equiv="Content-Security-Policy"]').getAttribute('content');
  assert.equal(policy, "default-src 'none'; style-src 'unsafe-inline'");
  await workbench.picture('report');
});
