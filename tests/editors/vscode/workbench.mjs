// Starts, drives and ends VS Code (code-server in Chromium) with the packaged extension, as a person would.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { DatabaseSync } from 'node:sqlite';

export const ROOT = path.resolve(import.meta.dirname, '../../..');
const CACHE = path.join(ROOT, '.cache/vscode');
const PICTURES = process.env.MIDSPAN_PICTURES ?? path.join(ROOT, '.cache/pictures');
// More on a machine that others keep busy: MIDSPAN_PATIENCE_MS=150000 make test-editors
export const PATIENCE_MS = Number(process.env.MIDSPAN_PATIENCE_MS ?? 45_000);
const AGAIN_MS = 5000;
const { chromium } = createRequire(path.join(CACHE, 'driver/package.json'))('playwright-core');
const ENTRY = path.join(CACHE, 'server/node_modules/code-server/out/node/entry.js');
const FETCHED = path.join(CACHE, 'chromium/chromium');
const QUIET = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
  // No request leaves this machine. A route of the driver's would turn the browser's cache off.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];
const SETTINGS = {
  'workbench.startupEditor': 'none',
  'workbench.enableExperiments': false,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'security.workspace.trust.untrustedFiles': 'open',
  'editor.accessibilitySupport': 'off',
  // What moves is painted without a GPU, which takes a core.
  'editor.cursorBlinking': 'solid',
  'workbench.reduceMotion': 'on',
  'chat.disableAIFeatures': true,
  'workbench.editor.useModal': 'off',
  // Settings are typed as a whole, with their own brackets and quotes.
  '[jsonc]': { 'editor.autoClosingBrackets': 'never', 'editor.autoClosingQuotes': 'never', 'editor.autoSurround': 'never' },
};

// Keys for commands without a key. A command that is run from the palette runs while the editor has no focus.
export const [NEXT_LINE, WHY] = ['Control+Alt+KeyL', 'Control+Alt+KeyW'];
const BINDINGS = [
  { key: 'ctrl+alt+l', command: 'editor.action.inlineSuggest.acceptNextLine' },
  { key: 'ctrl+alt+w', command: 'midspan.whyNothing' },
];

/** Runs in the page. Pieces in the editor's line are the ghost text's first line; a zone below it has the others. */
function ghostText() {
  const pieces = [...document.querySelectorAll('.monaco-editor .ghost-text, .monaco-editor .ghost-text-decoration')];
  const lines = Map.groupBy(pieces, (one) => one.parentElement);
  const isBelow = (line) => (line.querySelector('.ghost-text') === null ? 0 : 1);
  const inOrder = [...lines.keys()].sort((one, other) => isBelow(one) - isBelow(other));
  const texts = inOrder.map((line) => lines.get(line).map((one) => one.textContent).join(''));
  return texts.join('\n').replaceAll('\u00a0', ' ');
}

/** The condition's first truthy value; fails if there is none in time. */
export async function until(what, condition, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${patience / 1000} s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export class Workbench {
  /** Starts VS Code on a folder with these files. `settings` are the user's; `trusted: false` asks for trust. */
  static async start({ files, settings = () => ({}), trusted = true, environment = {} }) {
    const self = new Workbench();
    self.home = mkdtempSync(path.join(tmpdir(), 'midspan-vscode-'));
    self.folder = path.join(self.home, 'project');
    self.state = path.join(self.home, 'state');
    mkdirSync(self.folder);
    for (const [name, text] of Object.entries(files)) self.write(path.join(self.folder, name), text);
    const places = {};
    for (const kind of ['CONFIG', 'DATA', 'STATE', 'CACHE']) places[`XDG_${kind}_HOME`] = path.join(self.home, 'xdg', kind);
    // With VSCODE_CLI the environment is the one given here, not that of a login shell.
    self.environment = { ...process.env, VSCODE_CLI: '1', HOME: self.home, ...places, ...environment };
    const given = Object.entries(settings(self));
    const ours = ([name]) => name.startsWith('midspan.');
    const users = { ...SETTINGS, ...Object.fromEntries(given.filter((one) => !ours(one))) };
    self.write(path.join(self.home, 'data/User/settings.json'), JSON.stringify(users));
    self.write(self.settingsFile, JSON.stringify(Object.fromEntries(given.filter(ours))));
    self.write(path.join(self.home, 'data/User/keybindings.json'), JSON.stringify(BINDINGS));
    await self.serve(trusted);
    await self.browse();
    return self;
  }

  /** Writes midspan's settings in VS Code, which does not see that the file is changed by others; then shows a file. */
  async configure(settings, ...shown) {
    const text = JSON.stringify(settings);
    await this.run('Preferences: Open Remote Settings (JSON)');
    await this.page.locator('.tab.active', { hasText: 'settings.json' }).waitFor();
    await this.focus();
    await this.press('Control+a');
    await this.page.keyboard.insertText(text);
    await this.press('Control+s');
    await until('the settings are saved', () => readFileSync(this.settingsFile, 'utf8') === text);
    await this.show(...shown);
  }

  /** midspan's settings: VS Code reads those that name a program from this machine's file alone. */
  get settingsFile() {
    return path.join(this.home, 'data/Machine/settings.json');
  }

  get settings() {
    return JSON.parse(readFileSync(this.settingsFile, 'utf8'));
  }

  /** Another window on the same VS Code, with files of its own. */
  async another(files, name, line, column) {
    const other = Object.assign(new Workbench(), this, { folder: path.join(this.home, 'another') });
    for (const [file, text] of Object.entries(files)) other.write(path.join(other.folder, file), text);
    other.page = await this.page.context().newPage();
    other.page.setDefaultTimeout(PATIENCE_MS);
    await other.open(name, line, column);
    return other;
  }

  write(file, text) {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  async serve(trusted) {
    this.port = await freePort();
    const extensions = process.env.MIDSPAN_EXTENSIONS;
    if (!extensions) throw new Error('no MIDSPAN_EXTENSIONS: run these by make test-editors');
    const args = [
      ENTRY, '--bind-addr', `127.0.0.1:${this.port}`, '--auth', 'none', '--disable-telemetry', '--disable-update-check',
      '--disable-getting-started-override', '--user-data-dir', path.join(this.home, 'data'),
      '--extensions-dir', extensions, ...(trusted ? ['--disable-workspace-trust'] : []),
    ];
    this.server = spawn(path.join(CACHE, 'node/bin/node'), args, { env: this.environment, detached: true, stdio: 'pipe' });
    this.said = '';
    for (const stream of [this.server.stdout, this.server.stderr]) stream.on('data', (data) => { this.said += data; });
    await until('code-server listens', () => /HTTP server listening/.test(this.said));
  }

  async browse() {
    this.browser = await chromium.launch({
      executablePath: existsSync(FETCHED) ? FETCHED : 'chromium', args: QUIET, headless: true,
      env: { ...process.env, HOME: this.home },
    });
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 720 } });
    this.page = await context.newPage();
    this.page.setDefaultTimeout(PATIENCE_MS);
  }

  /** Opens the folder with one of its files, the cursor at a 1-based place. */
  async open(name, line = 1, column = 1) {
    const uri = `vscode-remote://127.0.0.1:${this.port}${path.join(this.folder, name)}:${line}:${column}`;
    const payload = JSON.stringify([['openFile', uri], ['gotoLineMode', 'true']]);
    const query = new URLSearchParams({ folder: this.folder, payload });
    await this.page.goto(`http://127.0.0.1:${this.port}/?${query}`);
    this.name = name;
    await this.page.waitForSelector('.monaco-editor .view-line');
  }

  /** Goes to a 1-based place of a file in the window that is open already. */
  async show(name, line, column) {
    await this.press('Control+p');
    await this.page.waitForSelector('.quick-input-widget input:focus');
    await this.page.keyboard.insertText(`${name}:${line}:${column}`);
    await this.page.locator('.quick-input-list .monaco-list-row', { hasText: name }).first().click();
    await this.page.locator('.tab.active', { hasText: name }).waitFor();
    await this.page.locator('.statusbar-item', { hasText: `Ln ${line}, Col ${column}` }).waitFor();
    this.name = name;
    await this.focus();
  }

  /** The ghost texts of all frames while `act` ran, repeats in a row left out. */
  async painted(act) {
    await this.page.evaluate((source) => {
      const ghost = new Function(`return (${source})()`);
      window.midspanSeen = [ghost()];
      window.midspanLooks = true;
      const look = () => {
        const now = ghost();
        if (now !== window.midspanSeen.at(-1)) window.midspanSeen.push(now);
        if (window.midspanLooks) requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    }, ghostText.toString());
    await act();
    return this.page.evaluate(() => {
      window.midspanLooks = false;
      return window.midspanSeen;
    });
  }

  /** The labels in the completion menu, once it is open. */
  async menu() {
    await this.page.waitForSelector('.suggest-widget.visible .monaco-list-row');
    return this.page.locator('.suggest-widget.visible .monaco-list-row .label-name').allTextContents();
  }

  /** The rows of the local log of suggestions. */
  rows() {
    const file = path.join(this.state, 'telemetry.db');
    if (!existsSync(file)) return [];
    const store = new DatabaseSync(file, { readOnly: true });
    try {
      return store.prepare('SELECT * FROM completion ORDER BY ts').all();
    } finally {
      store.close();
    }
  }

  /** Gives the editor the keyboard focus. */
  async focus() {
    await this.page.keyboard.press('Control+1');
    await this.page.waitForSelector('.monaco-editor.focused');
  }

  async type(text) {
    await this.page.keyboard.type(text);
  }

  async press(...keys) {
    for (const key of keys) await this.page.keyboard.press(key);
  }

  /** The ghost text on screen, its lines joined; empty if there is none. */
  async ghost() {
    return this.page.evaluate(ghostText);
  }

  async ghostIs(text) {
    await until(`the ghost text is ${JSON.stringify(text)}`, async () => (await this.ghost()) === text);
  }

  /** The status item's text, as shown to a person who points at it, once it matches. */
  async status(pattern, patience = PATIENCE_MS) {
    const item = this.page.locator('[id="status.languageStatus"]');
    await item.waitFor();
    let [said, clicked] = ['', 0];
    await until(`the status matches ${pattern}`, async () => {
      said = (await this.page.locator('.hover-language-status').allTextContents()).join('\n');
      // A click keeps the hover open; what closes at that time, such as a menu, closes it too.
      if (!said && Date.now() - clicked > AGAIN_MS) {
        await item.click();
        clicked = Date.now();
      }
      return pattern.test(said);
    }, patience).catch((error) => {
      throw new Error(`${error.message}, and is ${JSON.stringify(said)}`);
    });
    return said;
  }

  /** Waits until suggestions are registered, so that the next key is answered. */
  async ready() {
    await this.status(/midspan: ready/, 2 * PATIENCE_MS);
    await this.press('Escape');
    await this.focus();
  }

  /** Saves, and waits until the file has the wanted text. */
  async saved(wanted) {
    const file = path.join(this.folder, this.name);
    await this.page.keyboard.press('Control+s');
    const found = () => readFileSync(file, 'utf8');
    await until(`the file is ${JSON.stringify(wanted)}`, () => found() === wanted).catch((error) => {
      throw new Error(`${error.message}, and not ${JSON.stringify(found())}`);
    });
  }

  /** Runs a command by its title, as from the palette. */
  async run(title) {
    await this.page.keyboard.press('F1');
    await this.page.waitForSelector('.quick-input-widget input:focus');
    await this.page.keyboard.insertText(title);
    await this.page.locator('.quick-input-list .monaco-list-row', { hasText: title }).first().click();
  }

  /** Waits for a notification that contains this text; returns its whole text. */
  async notified(text) {
    const found = this.page.locator('.notification-list-item', { hasText: text }).first();
    await found.waitFor();
    return (await found.textContent()) ?? '';
  }

  async picture(name) {
    mkdirSync(PICTURES, { recursive: true });
    await this.page.screenshot({ path: path.join(PICTURES, `${name}.png`) });
  }

  /** Saves a picture of the screen if the test failed. */
  async pictureOf(test) {
    if (!test.passed) await this.picture(`failed: ${test.name}`.replaceAll(/\W+/g, '-')).catch(() => undefined);
  }

  async stop() {
    await this.browser?.close();
    if (this.server && this.server.exitCode === null) {
      process.kill(-this.server.pid, 'SIGTERM');
      await once(this.server, 'exit');
    }
    rmSync(this.home, { recursive: true, force: true, maxRetries: 5 });
  }
}

export const PYTHON = process.env.MIDSPAN_PYTHON ?? path.join(ROOT, '.venv/bin/python');
export const environment = { PYTHONPATH: path.join(ROOT, 'src'), OMP_NUM_THREADS: '1' };

/** Settings that start the scripted server of tests/server. */
export function scripted(workbench, ...more) {
  const server = path.join(ROOT, 'tests/server/scripted_serve.py');
  return { 'midspan.path': [PYTHON, server, '--state-dir', workbench.state, ...more] };
}
