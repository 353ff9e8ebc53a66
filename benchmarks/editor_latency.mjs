// Times from a key to ghost text and to the ordinary menu in a real VS Code; editor_latency.py starts this program.
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { environment, PYTHON, ROOT, until, Workbench } from '../tests/editors/vscode/workbench.mjs';

const SAMPLES = Number(process.argv[2]);
// A key without painted text after this time counts as one without ghost text.
const WAIT_MS = 1500;
const GHOST = '.monaco-editor .ghost-text, .monaco-editor .ghost-text-decoration';
const TEXT = readFileSync(path.join(ROOT, 'fixtures/demo/inventory.py'), 'utf8');
// Beginnings of lines to be typed below the file, without their last key.
const BEGINNINGS = [
  'for item in', 'names = [item.', 'total = sum(', 'if item.', 'return sorted(', 'print(', 'items = list(', 'assert total =',
];

// Words that the file has, of which the last letter is typed.
const WORDS = ['inventor', 'dataclas', 'item', 'pric', 'coun', 'remov', 'Inventor', 'self'];

/** Runs in the page. Measures the milliseconds from the next key to the frame that has `selector`; null for none. */
function watch([selector, wait]) {
  window.midspanTimed = new Promise((resolve) => {
    const begun = (event) => {
      document.removeEventListener('keydown', begun, true);
      const look = () => {
        const now = performance.now() - event.timeStamp;
        if (document.querySelector(selector)) resolve(now);
        else if (now > wait) resolve(null);
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    };
    document.addEventListener('keydown', begun, true);
  });
}

async function timed(workbench, key, selector) {
  await workbench.page.evaluate(watch, [selector, WAIT_MS]);
  await workbench.press(key);
  return workbench.page.evaluate(() => window.midspanTimed);
}

async function ghostTimes(workbench) {
  const out = [];
  for (let sample = 0; sample < SAMPLES; ++sample) {
    const line = BEGINNINGS[sample % BEGINNINGS.length];
    await workbench.press('Control+End', 'Enter');
    await workbench.page.keyboard.insertText(`    ${line}`);
    // What comes for this line is waited for and sent away, so that the next key starts from nothing.
    await workbench.page.waitForSelector(GHOST, { timeout: WAIT_MS }).catch(() => undefined);
    await until('the ghost text is gone', async () => {
      await workbench.press('Escape');
      return (await workbench.ghost()) === '';
    });
    out.push(await timed(workbench, line.endsWith('in') || line.endsWith('=') ? 'Space' : 'n', GHOST));
    await workbench.press('Escape', 'Control+Shift+k');
  }
  return out;
}

async function menuTime(workbench, word) {
  await workbench.press('Escape', 'Control+End', 'Enter');
  await workbench.page.keyboard.insertText(`    ${word.slice(0, -1)}`);
  await until('no ghost text stands', async () => {
    await workbench.press('Escape');
    return (await workbench.ghost()) === '';
  });
  const found = await timed(workbench, word.at(-1), '.suggest-widget.visible .monaco-list-row');
  await workbench.press('Escape');
  await until('the menu is gone', () => workbench.page.evaluate(() => !document.querySelector('.suggest-widget.visible')));
  await workbench.press('Escape', 'Control+Shift+k');
  return found;
}

async function begin(extensions, threshold) {
  process.env.MIDSPAN_EXTENSIONS = extensions;
  const shown = threshold === undefined ? {} : { 'midspan.show_threshold': threshold };
  const settings = () => ({ 'midspan.interpreter': PYTHON, ...shown });
  const workbench = await Workbench.start({ files: { 'inventory.py': TEXT }, settings, environment });
  workbench.state = path.join(workbench.home, 'xdg/STATE/midspan');
  await workbench.open('inventory.py', TEXT.split('\n').length, 1);
  return workbench;
}

async function ghosts(extensions) {
  const workbench = await begin(extensions, 0);
  try {
    await workbench.ready();
    await ghostTimes(workbench);
    const began = Date.now();
    const ghost = await ghostTimes(workbench);
    const rows = workbench.rows().filter((row) => row.ts >= began && row.trigger === 'automatic');
    return { ghost, server: rows.map((row) => row.latency_ms) };
  } finally {
    await workbench.stop();
  }
}

/** As shipped, with a threshold that nothing reaches, and without midspan. Where ghost text comes, the menu does not. */
async function menus(extensions, none) {
  const windows = {};
  const found = { with: [], nothing_sure: [], without: [] };
  try {
    windows.with = await begin(extensions);
    windows.nothing_sure = await begin(extensions, 1);
    windows.without = await begin(none);
    await windows.with.ready();
    await windows.nothing_sure.ready();
    for (let sample = 0; sample < WORDS.length + SAMPLES; ++sample) {
      for (const [name, workbench] of Object.entries(windows)) {
        const took = await menuTime(workbench, WORDS[sample % WORDS.length]);
        if (sample >= WORDS.length) found[name].push(took);
      }
    }
    return found;
  } finally {
    for (const workbench of Object.values(windows)) await workbench.stop();
  }
}

const installed = process.env.MIDSPAN_EXTENSIONS;
const none = path.join(installed, '..', 'no-extensions');
mkdirSync(none, { recursive: true });
const found = await ghosts(installed);
process.stdout.write(`${JSON.stringify({ ...found, menus: await menus(installed, none) })}\n`);
