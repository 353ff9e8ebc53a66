// Failures in a real VS Code: a server that dies or refuses its checkpoint, no Python, an untrusted folder. One window has
// most of them: each test begins with settings and a file of its own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { environment, scripted, until, Workbench } from './workbench.mjs';

const TEXT = 'left + right';
const EMPTY = 'total = \n';
const FILES = { 'killed.py': EMPTY, 'loading.py': EMPTY, 'refused.py': EMPTY, 'none.py': EMPTY, 'shared.py': EMPTY };
let workbench;

before(async () => {
  // Whatever is started by its name is in this folder.
  const onlyBin = (of) => {
    mkdirSync((of.environment.PATH = path.join(of.home, 'bin')));
    return scripted(of);
  };
  workbench = await Workbench.start({ files: FILES, settings: onlyBin, environment });
  await workbench.open('killed.py', 1, 9);
  await workbench.ready();
});

afterEach((context) => workbench?.pictureOf(context));

after(() => workbench?.stop());

async function typed() {
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
}

async function clear() {
  await workbench.press('Escape');
  await workbench.run('Notifications: Clear All Notifications');
}

/** The process id of the server whose state folder this is. */
function serverProcess(state) {
  const holds = (pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(state);
    } catch {
      return false;
    }
  };
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).find(holds);
}

test('a killed server is restarted with a message, and suggestions go on', async () => {
  await typed();
  const first = serverProcess(workbench.state);
  process.kill(first, 'SIGKILL');
  await workbench.notified('the server had stopped and was started again');
  await workbench.picture('restarted');
  await until('another server runs', () => ![undefined, first].includes(serverProcess(workbench.state)));
  await clear();
  await workbench.ready();
  await workbench.press('Backspace');
  await typed();
});

test('the status goes from loading to ready, and a language can be turned off and on', async () => {
  const gate = path.join(workbench.home, 'gate');
  execFileSync('mkfifo', [gate]);
  await workbench.configure(scripted(workbench, '--gate', gate), 'loading.py', 1, 9);
  await workbench.status(/midspan: loading/);
  await workbench.picture('loading');
  await workbench.press('Escape');
  writeFileSync(gate, '');
  await workbench.ready();
  assert.match(await workbench.status(/midspan: ready/), /scripted on cpu/);
  await workbench.press('Escape');
  await workbench.focus();
  await typed();
  await workbench.press('Escape', 'Backspace');
  await workbench.run('midspan: This Language On or Off');
  await workbench.notified('midspan: python is off now');
  await workbench.run('midspan: Why Is Nothing Shown Here?');
  await workbench.notified('scripted was trained on it, but it is off');
  await workbench.run('midspan: This Language On or Off');
  await workbench.notified('midspan: python is on now');
  await workbench.focus();
  await typed();
  await clear();
});

test('a checkpoint that cannot be used is named, with the fix', async () => {
  await workbench.configure(scripted(workbench, '--refuse', 'no such checkpoint; give another'), 'refused.py', 1, 9);
  await workbench.status(/midspan: does not run.*no such checkpoint; give another/);
  await workbench.notified('no such checkpoint; give another');
  await workbench.picture('refused');
  await clear();
});

test('a setting that names no program says so', async () => {
  await workbench.configure({ 'midspan.path': '/nowhere/midspan' }, 'none.py', 1, 9);
  await workbench.status(/midspan: does not run.*there is no program \/nowhere\/midspan; correct the setting or empty it/);
  await clear();
});

test('without Python one sentence says what is missing', async () => {
  await workbench.configure({}, 'none.py', 1, 9);
  await workbench.notified('midspan needs its server, a Python program.');
  await workbench.picture('no-server');
  await workbench.page.getByRole('button', { name: 'Set Up', exact: true }).click();
  await workbench.notified('midspan needs Python 3.11 or newer, and there is no Python on PATH');
  await workbench.picture('no-python');
  await workbench.status(/midspan: not set up.*no Python on PATH/);
  await workbench.press('Escape');
});

test('a Python that is too old is named with its version', async () => {
  const python = path.join(workbench.home, 'bin/python3');
  writeFileSync(python, '#!/bin/sh\necho "[3, 9, false]"\n');
  chmodSync(python, 0o755);
  await workbench.run('midspan: Set Up Its Python Environment');
  await workbench.notified('python3 is 3.9: install a newer one, or name it in midspan.interpreter');
  await clear();
});

test('two windows have a server each and share one log', async () => {
  await workbench.configure(scripted(workbench), 'shared.py', 1, 9);
  await workbench.ready();
  await typed();
  await workbench.press('Tab');
  const other = await workbench.another({ 'b.py': 'count = \n' }, 'b.py', 1, 9);
  await other.ready();
  await other.type(' ');
  await other.ghostIs(TEXT);
  await other.press('Tab');
  await until('both are in the log', () => workbench.rows().filter((row) => row.accepted_ts !== null).length === 2);
});

test('a folder that is not trusted cannot name the program', async () => {
  await workbench.stop();
  let mark;
  const evil = (of) => {
    mark = path.join(of.home, 'ran');
    of.write(path.join(of.folder, 'evil.sh'), `#!/bin/sh\ntouch ${mark}\n`);
    chmodSync(path.join(of.folder, 'evil.sh'), 0o755);
    of.write(path.join(of.folder, '.vscode/settings.json'), JSON.stringify({ 'midspan.path': [path.join(of.folder, 'evil.sh')] }));
    return { ...scripted(of), 'security.workspace.trust.startupPrompt': 'never' };
  };
  workbench = await Workbench.start({ files: { 'a.py': EMPTY }, settings: evil, trusted: false, environment });
  await workbench.open('a.py', 1, 9);
  await workbench.ready();
  await typed();
  await workbench.picture('untrusted');
  assert.equal(existsSync(mark), false);
});
