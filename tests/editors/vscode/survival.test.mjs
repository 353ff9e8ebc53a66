// Failures in a real VS Code: a server that dies or refuses its checkpoint, no Python, an untrusted folder.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { environment, scripted, until, Workbench } from './workbench.mjs';

const TEXT = 'list + range';
const FILES = { 'a.py': 'total = \n' };
let workbench;

async function open(options) {
  workbench = await Workbench.start({ files: FILES, environment, ...options });
  await workbench.open('a.py', 1, 9);
}

afterEach(async (context) => {
  await workbench?.pictureOf(context);
  await workbench?.stop();
});

async function typed() {
  await workbench.type(' ');
  await workbench.ghostIs(TEXT);
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

/** Sets PATH to a folder with this program alone. */
function withProgram(name, text) {
  return (of) => {
    const folder = path.join(of.home, 'bin');
    mkdirSync(folder);
    writeFileSync(path.join(folder, name), text);
    chmodSync(path.join(folder, name), 0o755);
    of.environment.PATH = folder;
    return {};
  };
}

test('a killed server is restarted with a message, and suggestions go on', async () => {
  await open({ settings: scripted });
  await workbench.ready();
  await typed();
  const first = serverProcess(workbench.state);
  process.kill(first, 'SIGKILL');
  await workbench.notified('the server had stopped and was started again');
  await workbench.picture('restarted');
  await until('another server runs', () => ![undefined, first].includes(serverProcess(workbench.state)));
  await workbench.run('Notifications: Clear All Notifications');
  await workbench.ready();
  await workbench.press('Backspace');
  await typed();
});

test('the status goes from loading to ready, and a language can be turned off and on', async () => {
  let gate;
  await open({
    settings: (of) => {
      gate = path.join(of.home, 'gate');
      execFileSync('mkfifo', [gate]);
      return scripted(of, '--gate', gate);
    },
  });
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
});

test('a checkpoint that cannot be used is named, with the fix', async () => {
  await open({ settings: (of) => scripted(of, '--refuse', 'no such checkpoint; give another') });
  await workbench.status(/midspan: does not run.*no such checkpoint; give another/);
  await workbench.notified('no such checkpoint; give another');
  await workbench.picture('refused');
});

test('without Python one sentence says what is missing', async () => {
  await open({ settings: withProgram('nothing', '') });
  await workbench.notified('midspan needs its server, a Python program.');
  await workbench.picture('no-server');
  await workbench.page.getByRole('button', { name: 'Set Up', exact: true }).click();
  await workbench.notified('midspan needs Python 3.11 or newer, and there is no Python on PATH');
  await workbench.picture('no-python');
  await workbench.status(/midspan: not set up.*no Python on PATH/);
});

test('a Python that is too old is named with its version', async () => {
  await open({ settings: withProgram('python3', '#!/bin/sh\necho "[3, 9, false]"\n') });
  await workbench.notified('midspan needs its server');
  await workbench.page.getByRole('button', { name: 'Set Up', exact: true }).click();
  await workbench.notified('python3 is 3.9: install a newer one, or name it in midspan.interpreter');
});

test('a setting that names no program says so', async () => {
  await open({ settings: () => ({ 'midspan.path': '/nowhere/midspan' }) });
  await workbench.status(/midspan: does not run.*there is no program \/nowhere\/midspan; correct the setting or empty it/);
});

test('a folder that is not trusted cannot name the program', async () => {
  let mark;
  const evil = (of) => {
    mark = path.join(of.home, 'ran');
    of.write(path.join(of.folder, 'evil.sh'), `#!/bin/sh\ntouch ${mark}\n`);
    chmodSync(path.join(of.folder, 'evil.sh'), 0o755);
    of.write(path.join(of.folder, '.vscode/settings.json'), JSON.stringify({ 'midspan.path': [path.join(of.folder, 'evil.sh')] }));
    return { ...scripted(of), 'security.workspace.trust.startupPrompt': 'never' };
  };
  await open({ settings: evil, trusted: false });
  await workbench.ready();
  await typed();
  await workbench.picture('untrusted');
  assert.equal(existsSync(mark), false);
});

test('two windows have a server each and share one log', async () => {
  await open({ settings: scripted });
  await workbench.ready();
  await typed();
  await workbench.press('Tab');
  const other = await workbench.another({ 'b.py': 'count = \n' }, 'b.py', 1, 9);
  await other.ready();
  await other.type(' ');
  await other.ghostIs(TEXT);
  await other.press('Tab');
  await until('both are in the log', () => workbench.rows().filter((row) => row.accepted_ts !== null).length === 2, 10_000);
});
