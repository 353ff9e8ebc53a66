// The rest of what somebody meets in a real VS Code: a line of several, a notebook, the walkthrough, a pause, an old server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { environment, NEXT_LINE, ROOT, scripted, until, Workbench } from './workbench.mjs';

const TEXT = 'list + range';
const FILES = {
  'a.py': 'total = \n',
  'lines.py': 'def lines(left, right):\n\n\nprint(1)\n',
  'book.ipynb': JSON.stringify({
    cells: [{ cell_type: 'code', execution_count: null, metadata: {}, outputs: [], source: ['total ='] }],
    metadata: { language_info: { name: 'python' } },
    nbformat: 4,
    nbformat_minor: 5,
  }),
};
let workbench;

async function open(name, line, column, ...more) {
  workbench = await Workbench.start({ files: FILES, settings: (of) => scripted(of, ...more), environment });
  await workbench.open(name, line, column);
}

afterEach(async (context) => {
  await workbench?.pictureOf(context);
  await workbench?.stop();
});

async function choose(label) {
  await workbench.page.locator('.quick-input-list .monaco-list-row', { hasText: label }).first().click();
}

test('the next line is taken alone', async () => {
  await open('lines.py', 2, 1);
  await workbench.ready();
  await workbench.type('    ');
  await workbench.ghostIs(`${TEXT}\n    ${TEXT}`);
  await workbench.press(NEXT_LINE);
  await workbench.saved(`def lines(left, right):\n    ${TEXT}\n\n\nprint(1)\n`);
  const taken = await until('the log says how much', () => workbench.rows().find((row) => row.partial_chars > 0), 10_000);
  assert.equal(taken.partial_chars, `${TEXT}\n`.length);
});

test('a cell of a notebook is filled', async () => {
  await open('a.py', 1, 9);
  await workbench.ready();
  await workbench.press('Control+p');
  await workbench.page.keyboard.insertText('book.ipynb');
  await choose('book.ipynb');
  await workbench.page.locator('.notebookOverlay .view-line').first().click();
  await workbench.press('End');
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.picture('notebook');
  await workbench.press('Tab');
  await until('the cell has it', async () => {
    const cell = await workbench.page.locator('.notebookOverlay .view-line').first().textContent();
    return cell.replaceAll('\u00a0', ' ') === `total = ${TEXT}`;
  });
});

test('a pause is shown, said as the reason, and ended', async () => {
  await open('a.py', 1, 9);
  await workbench.ready();
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
  await open('a.py', 1, 9);
  await workbench.ready();
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

test('a server that is too old is named, with the command that brings a newer one', async () => {
  await open('a.py', 1, 9, '--told-version', '0.0.9');
  await workbench.status(/midspan: does not run.*midspan 0\.0\.9 is older than 0\.1\.0; run .*pip install --upgrade midspan/);
});
