// Times from a key to ghost text and to the ordinary menu in a real VS Code; editor_latency.py starts this program.
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { environment, PYTHON, ROOT, until, Workbench } from '../tests/editors/vscode/workbench.mjs';

const SAMPLES = Number(process.argv[2]);
// A key without painted text after this time counts as one without ghost text.
const WAIT_MS = 1500;
const TEXT = readFileSync(path.join(ROOT, 'fixtures/demo/inventory.py'), 'utf8');
// Beginnings of lines to be typed below the file, without their last key.
const BEGINNINGS = [
  'for item in', 'names = [item.', 'total = sum(', 'if item.', 'return sorted(', 'print(', 'items = list(', 'assert total =',
];

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
    await workbench.page.waitForTimeout(200);
    await workbench.press('Escape');
    await workbench.ghostIs('');
    out.push(await timed(workbench, line.endsWith('in') || line.endsWith('=') ? 'Space' : 'n', '.ghost-text, .ghost-text-decoration'));
    await workbench.press('Escape', 'Control+Shift+k');
  }
  return out;
}

async function menuTime(workbench, letter) {
  await workbench.press('Escape', 'End');
  const found = await timed(workbench, letter, '.suggest-widget.visible .monaco-list-row');
  await workbench.press('Escape', 'Backspace');
  await until('the menu is gone', () => workbench.page.evaluate(() => !document.querySelector('.suggest-widget.visible')));
  return found;
}

async function window_(extensions, file, text, line, column) {
  process.env.MIDSPAN_EXTENSIONS = extensions;
  const settings = () => ({ 'midspan.interpreter': PYTHON, 'midspan.show_threshold': 0 });
  const workbench = await Workbench.start({ files: { [file]: text }, settings, environment });
  await workbench.open(file, line, column);
  return workbench;
}

const installed = process.env.MIDSPAN_EXTENSIONS;
const none = path.join(installed, '..', 'no-extensions');
mkdirSync(none, { recursive: true });
const lines = TEXT.split('\n').length;
const ours = await window_(installed, 'inventory.py', TEXT, lines, 1);
const plain = await window_(none, 'inventory.py', TEXT, lines, 1);
try {
  await ours.ready();
  await ours.focus();
  await plain.focus();
  await ghostTimes(ours);
  const began = Date.now();
  const ghost = await ghostTimes(ours);
  const server = ours.rows().filter((row) => row.ts >= began && row.trigger === 'automatic').map((row) => row.latency_ms);
  const menus = { with: [], without: [] };
  for (const workbench of [ours, plain]) {
    await workbench.press('Control+End', 'Enter');
    await workbench.page.keyboard.insertText('    invento');
  }
  for (let sample = 0; sample < 3 + SAMPLES; ++sample) {
    for (const [name, workbench] of [['with', ours], ['without', plain]]) {
      const took = await menuTime(workbench, 'r');
      if (sample >= 3) menus[name].push(took);
    }
  }
  process.stdout.write(`${JSON.stringify({ ghost, server, menus })}\n`);
} finally {
  await ours.stop();
  await plain.stop();
}
