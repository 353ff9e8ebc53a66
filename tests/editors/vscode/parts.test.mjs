// The rest of what somebody meets in a real VS Code, in one window: a line of several, a notebook, a pause, the walkthrough,
// the choice of a model, an old server.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { environment, NEXT_LINE, PYTHON, ROOT, scripted, until, Workbench } from './workbench.mjs';

const TEXT = 'left + right';
const FILES = {
  'paused.py': 'total = \n',
  'model.py': 'total = \n',
  'lines.py': 'def lines(left, right):\n\n\nprint(1)\n',
  'book.ipynb': JSON.stringify({
    cells: [{ cell_type: 'code', execution_count: null, metadata: {}, outputs: [], source: ['total ='] }],
    metadata: { language_info: { name: 'python' } },
    nbformat: 4,
    nbformat_minor: 5,
  }),
};
let workbench;

/** A program `midspan` with the scripted engine, and a model that llama.cpp has fetched. */
function program(of) {
  const file = path.join(of.home, 'midspan');
  const command = `${PYTHON} ${path.join(ROOT, 'tests/editors/scripted_midspan.py')}`;
  writeFileSync(file, `#!/bin/sh\nname=$1; shift\nexec ${command} "$name" --state-dir '${of.state}' "$@"\n`);
  chmodSync(file, 0o755);
  of.granite = path.join(of.environment.XDG_CACHE_HOME, 'llama.cpp/granite.gguf');
  const write = 'import pathlib, sys; from tests.server.models.gguf_bytes import write; write(pathlib.Path(sys.argv[1]))';
  execFileSync(PYTHON, ['-c', write, of.granite], { cwd: ROOT, env: { ...process.env, PYTHONPATH: ROOT } });
  return { 'midspan.path': file };
}

before(async () => {
  workbench = await Workbench.start({ files: FILES, settings: program, environment });
  await workbench.open('lines.py', 2, 1);
  await workbench.ready();
});

afterEach((context) => workbench?.pictureOf(context));

after(() => workbench?.stop());

async function choose(label) {
  await workbench.page.locator('.quick-input-list .monaco-list-row', { hasText: label }).first().click();
}

test('the next line is taken alone', async () => {
  await workbench.type('    ');
  await workbench.ghostIs(`${TEXT}\n    ${TEXT}`);
  await workbench.press(NEXT_LINE);
  await workbench.saved(`def lines(left, right):\n    ${TEXT}\n\n\nprint(1)\n`);
  const taken = await until('the log says how much', () => workbench.rows().find((row) => row.partial_chars > 0));
  assert.equal(taken.partial_chars, `${TEXT}\n`.length);
});

test('a cell of a notebook is filled', async () => {
  await workbench.press('Control+p');
  await workbench.page.keyboard.insertText('book.ipynb');
  await choose('book.ipynb');
  await workbench.page.locator('.notebookOverlay .view-line').first().click();
  await workbench.press('End');
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.picture('notebook');
  await workbench.press('Tab');
  // The next suggestion may stand behind it already, in the same line.
  const withoutGhost = () => {
    const line = document.querySelector('.notebookOverlay .view-line').cloneNode(true);
    for (const piece of line.querySelectorAll('.ghost-text, .ghost-text-decoration')) piece.remove();
    return line.textContent.replaceAll('\u00a0', ' ');
  };
  await until('the cell has it', async () => (await workbench.page.evaluate(withoutGhost)) === `total = ${TEXT}`);
});

test('a pause is shown, said as the reason, and ended', async () => {
  await workbench.show('paused.py', 1, 9);
  await workbench.run('midspan: Menu');
  await choose('Pause');
  await choose('5 minutes');
  await workbench.status(/midspan: paused.*until/);
  await workbench.press('Escape');
  await workbench.focus();
  await workbench.type(' ');
  await workbench.run('midspan: Why Is Nothing Shown Here?');
  await workbench.notified('suggestions are paused');
  assert.equal(await workbench.ghost(), '');
  await workbench.run('Notifications: Clear All Notifications');
  await workbench.run('midspan: Menu');
  await choose('Resume');
  await workbench.ready();
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
});

test('the walkthrough has its four steps, and opens the sample', async () => {
  await workbench.run('Welcome: Open Walkthrough...');
  await choose('Get started with midspan');
  const titles = workbench.page.locator('.gettingStartedContainer .step-title');
  await titles.first().waitFor();
  const manifest = JSON.parse(readFileSync(path.join(ROOT, 'editors/vscode/package.json'), 'utf8'));
  const wanted = manifest.contributes.walkthroughs[0].steps.map((step) => step.title);
  assert.deepEqual((await titles.allTextContents()).filter((one) => one.trim()), wanted);
  await titles.filter({ hasText: 'Try it' }).click();
  await workbench.picture('walkthrough');
  await workbench.page.getByRole('button', { name: 'Open the sample' }).click();
  const [first] = readFileSync(path.join(ROOT, 'editors/vscode/walkthrough/sample.py'), 'utf8').split('\n');
  await workbench.page.locator('.view-line', { hasText: first }).waitFor();
});

test('the menu offers the models at hand; the chosen one is set and started', async () => {
  await workbench.show('model.py', 1, 9);
  await workbench.run('midspan: Menu');
  await choose('Model and device');
  await workbench.page.locator('.quick-input-title', { hasText: 'Models at hand' }).waitFor();
  const rows = workbench.page.locator('.quick-input-list .monaco-list-row');
  const labels = (await rows.allTextContents()).join('\n');
  assert.match(labels, /embedded.*midspan; licence: Apache-2\.0/);
  assert.match(labels, /Others to fetch in a terminal.*midspan models get /s);
  await workbench.picture('models');
  await choose('granite');
  await workbench.status(/midspan: ready.*granite on cpu/);
  await workbench.press('Escape');
  assert.equal(workbench.settings['midspan.checkpoint'], workbench.granite);
  await workbench.run('midspan: Menu');
  await choose('Model and device');
  // The mark is an icon, which the row's description for screen readers names.
  await workbench.page.locator('.quick-input-list .monaco-list-row', { hasText: 'granite' }).locator('.codicon-check').waitFor();
  await workbench.press('Escape');
});

test('a command that chooses its own model says so in place of a choice without effect', async () => {
  await workbench.configure(scripted(workbench), 'model.py', 1, 9);
  await workbench.status(/midspan: ready.*scripted on cpu/);
  await workbench.press('Escape');
  await workbench.run('midspan: Menu');
  await choose('Model and device');
  await workbench.notified('the command in midspan.path chooses the model; add --checkpoint to it');
  await workbench.run('Notifications: Clear All Notifications');
});

test('a server that is too old is named, with the command that brings a newer one', async () => {
  await workbench.configure(scripted(workbench, '--told-version', '0.0.9'), 'model.py', 1, 9);
  await workbench.status(/midspan: does not run.*midspan 0\.0\.9 is older than 0\.1\.0; run .*pip install --upgrade midspan/);
});
