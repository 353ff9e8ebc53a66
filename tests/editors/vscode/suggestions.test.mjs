// Suggestions in a real VS Code, from the scripted server: the line before the cursor decides what it suggests.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { environment, scripted, until, WHY, Workbench } from './workbench.mjs';

const TEXT = 'left + right';
// How long the scripted server takes for a line with the word "delayed".
const ANSWER_MS = 3000;
const FILES = {
  'tab.py': 'def add(left, right):\n    ret\n',
  'word.py': 'total = \n',
  'cycle.py': 'several = \n',
  'escape.py': 'gone = \n',
  'along.py': 'along = \n',
  'menu.py': 'names = [1]\nempty = na\n',
  'late.py': 'delayed = \n',
  'late_menu.py': 'names = [1]\ndelayed = na\n',
  'rewrite.py': 'def total(items):\n    result = sum(items)\n    return result\n',
  'preview.py': 'def total(items):\n    result = sum(\n        items)\n    return result\n',
  'letters.py': '# é\nname = "é𝄞ß" + \n',
  'crlf.py': 'def lines(left, right):\r\n\r\n\r\nprint(1)\r\n',
  'draft.py': 'forever = \n',
  'gate.py': 'low = \n',
  'other.go': 'package main\n',
};
let workbench;

before(async () => {
  const settings = (of) => ({ ...scripted(of), 'midspan.preview': true, 'midspan.confirm_rewrites': true });
  workbench = await Workbench.start({ files: FILES, settings, environment });
  await workbench.open('tab.py', 2, 8);
  await workbench.ready();
});

afterEach((context) => workbench?.pictureOf(context));

after(() => workbench?.stop());

/** Chooses to refill the selection, from the menu of code actions. */
async function refill(picture) {
  // VS Code asks by itself soon after a selection, which ends the menu that somebody asks for before.
  await workbench.page.waitForSelector('[class*="lightbulb" i]');
  await workbench.press('Control+.');
  const action = workbench.page.locator('.action-widget .monaco-list-row', { hasText: /midspan: refill/i }).first();
  await action.waitFor();
  await workbench.picture(picture);
  await action.click();
}

async function row(wanted) {
  return until('the log has the row', () => workbench.rows().find(wanted));
}

test('ghost text appears, Tab accepts it, and the log says so', async () => {
  await workbench.type('urn ');
  await workbench.ghostIs(TEXT);
  await workbench.picture('ghost-text');
  await workbench.press('Tab');
  await workbench.saved(`def add(left, right):\n    return ${TEXT}\n`);
  const { trigger, language, chars } = await row((one) => one.accepted_ts !== null);
  assert.deepEqual({ trigger, language, chars }, { trigger: 'automatic', language: 'python', chars: TEXT.length });
});

test('the next word can be accepted alone, and the log says how much was', async () => {
  await workbench.show('word.py', 1, 9);
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.press('Control+ArrowRight');
  await workbench.ghostIs(' + right');
  await workbench.saved('total =  left\n');
  await row((one) => one.partial_chars === 'left'.length);
});

test('next and previous cycle through the suggestions', async () => {
  await workbench.show('cycle.py', 1, 11);
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.press('Alt+]');
  await workbench.ghostIs('second');
  await workbench.press('Alt+]');
  await workbench.ghostIs('third');
  await workbench.press('Alt+[');
  await workbench.ghostIs('second');
  await workbench.press('Tab');
  await workbench.saved('several =  second\n');
});

test('Escape hides the suggestion and changes nothing', async () => {
  await workbench.show('escape.py', 1, 8);
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.press('Escape');
  await workbench.ghostIs('');
  await workbench.saved('gone =  \n');
});

test('typing along keeps the suggestion on screen in every frame', async () => {
  await workbench.show('along.py', 1, 9);
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  const seen = await workbench.painted(async () => {
    for (const key of 'left') await workbench.press(key);
    await workbench.ghostIs(' + right');
  });
  const rests = [TEXT, 'eft + right', 'ft + right', 't + right', ' + right'];
  assert.deepEqual(seen.filter((one) => !rests.includes(one)), []);
});

test('an empty answer leaves the ordinary menu to open', async () => {
  await workbench.show('menu.py', 2, 11);
  await workbench.type('m');
  assert.deepEqual(await workbench.menu(), ['names']);
  assert.equal(await workbench.ghost(), '');
  await workbench.press('Escape');
});

test('the ordinary menu opens before an answer that is late', async () => {
  await workbench.show('late_menu.py', 2, 13);
  const began = Date.now();
  await workbench.type('m');
  assert.deepEqual(await workbench.menu(), ['names']);
  assert.ok(Date.now() - began < ANSWER_MS, `${Date.now() - began} ms`);
  await workbench.press('Escape');
});

test('a late answer is offered when it comes', async () => {
  await workbench.show('late.py', 1, 11);
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.press('Tab');
  await workbench.saved(`delayed =  ${TEXT}\n`);
  await row((one) => one.latency_ms >= ANSWER_MS && one.trigger === 'automatic' && one.accepted_ts !== null);
});

test('a selection is rewritten, and undone in one step', async () => {
  await workbench.show('rewrite.py', 2, 5);
  await workbench.press('Shift+End');
  await refill('code-actions');
  await workbench.saved(`def total(items):\n    ${TEXT}\n    return result\n`);
  await workbench.focus();
  await workbench.press('Control+z');
  await workbench.saved(FILES['rewrite.py']);
});

test("a rewrite of several lines is shown in VS Code's preview, and applied once it is ticked there", async () => {
  await workbench.show('preview.py', 2, 5);
  await workbench.press('Shift+ArrowDown', 'Shift+End');
  await refill('code-actions-of-lines');
  const preview = workbench.page.locator('.bulk-edit-panel');
  const tick = preview.locator('.edit-checkbox').first();
  await tick.waitFor();
  assert.equal(await tick.isChecked(), false);
  await workbench.picture('refactor-preview');
  await tick.click();
  await preview.getByRole('button', { name: 'Apply' }).click();
  await preview.waitFor({ state: 'hidden' });
  await workbench.show('preview.py', 1, 1);
  await workbench.saved(`def total(items):\n    ${TEXT}\n    return result\n`);
  await workbench.press('Control+z');
  await workbench.saved(FILES['preview.py']);
});

test('characters of any Unicode plane may be before the cursor', async () => {
  await workbench.show('letters.py', 2, 1);
  await workbench.press('End');
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
  await workbench.press('Tab');
  await workbench.saved(`# é\nname = "é𝄞ß" +  ${TEXT}\n`);
});

test('several lines keep the line ends of the file', async () => {
  await workbench.show('crlf.py', 2, 1);
  await workbench.type('    ');
  await workbench.ghostIs(`${TEXT}\n    ${TEXT}`);
  await workbench.press('Tab');
  await workbench.saved(`def lines(left, right):\r\n    ${TEXT}\r\n    ${TEXT}\r\n\r\nprint(1)\r\n`);
});

test('the draft is drawn while it settles, and gone with the next key', async () => {
  await workbench.show('draft.py', 1, 11);
  const draft = () =>
    workbench.page.evaluate(() =>
      [...document.querySelectorAll('.view-line [class*=ced-]')]
        .map((one) => getComputedStyle(one, '::after').content)
        .filter((one) => one !== 'none')
        .map((one) => one.replaceAll('"', '').replaceAll('\u00a0', ' '))
        .join(''),
    );
  await workbench.type(' ');
  await until('the whole draft is drawn', async () => (await draft()) === TEXT);
  await workbench.picture('draft');
  await workbench.press('Control+a', 'Delete');
  await until('the draft is gone', async () => (await draft()) === '');
});

test('the reason why nothing is shown is given in words', async () => {
  await workbench.show('gate.py', 1, 7);
  await workbench.type(' ');
  await until('the decision is there', async () => {
    await workbench.press(WHY);
    const said = await workbench.notified('midspan');
    await workbench.picture('why');
    await workbench.run('Notifications: Clear All Notifications');
    return said.includes('the best suggestion was 1% sure and 25% was needed');
  });
});

test('a language that is off sends no requests, and the reason names the fix', async () => {
  await workbench.show('other.go', 1, 13);
  await workbench.run('midspan: Why Is Nothing Shown Here?');
  await workbench.notified('the setting "languages": {"go": true} turns it on');
  await workbench.run('Notifications: Clear All Notifications');
});
