/** midspan's commands, and the menu of them. */

import * as vscode from 'vscode';
import { chooseModel } from './models.js';
import { output } from './python.js';
import { commandArguments, showReport } from './report.js';
import type { Server } from './server.js';
import { change, settings } from './settings.js';
import type { Status } from './status.js';

const SNOOZE_MINUTES = [5, 15, 60];
const DOCTOR_MS = 300_000;
const SAMPLE = 'walkthrough/sample.py';

/** The parts of the extension that commands use. */
export interface Running {
  readonly context: vscode.ExtensionContext;
  readonly log: vscode.LogOutputChannel;
  readonly status: Status;
  readonly server: () => Server | undefined;
  readonly ask: <T>(command: string, ...args: unknown[]) => Promise<T | undefined>;
  readonly restart: () => Promise<void>;
  readonly setUp: () => Promise<void>;
}

type Entry = vscode.QuickPickItem & { readonly run?: () => unknown };

export function registerCommands(running: Running): void {
  const commands: Record<string, () => unknown> = {
    menu: () => menu(running),
    toggleQuiet: () => change('quiet', !settings().get('quiet')),
    toggleLanguage: () => toggleLanguage(running),
    whyNothing: () => why(running),
    doctor: () => doctor(running),
    report: () => report(running),
    log: () => running.log.show(),
    restart: running.restart,
    install: running.setUp,
    sample: () => openSample(running.context),
  };
  for (const [name, run] of Object.entries(commands)) {
    running.context.subscriptions.push(vscode.commands.registerCommand(`midspan.${name}`, run));
  }
}

async function menu(running: Running): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  const quiet = settings().get<boolean>('quiet');
  const entries: Entry[] = [
    { label: '$(question) Why is nothing shown here?', run: () => why(running) },
    { label: quiet ? '$(eye) Offer unasked' : '$(eye-closed) Only on request (quiet)', run: run('toggleQuiet') },
    ...(language ? [{ label: `$(code) ${language} on or off`, run: run('toggleLanguage') }] : []),
    running.status.paused
      ? { label: '$(debug-start) Resume', run: () => pause(running.status, 0) }
      : { label: '$(debug-pause) Pause', run: () => choosePause(running.status) },
    { label: '$(chip) Model and device', run: () => model(running) },
    { label: 'help', kind: vscode.QuickPickItemKind.Separator },
    { label: '$(pulse) Doctor', run: run('doctor') },
    { label: '$(graph) Report', run: run('report') },
    { label: '$(output) Log', run: run('log') },
    { label: '$(refresh) Restart the server', run: run('restart') },
    { label: '$(cloud-download) Set up its Python environment', run: run('install') },
  ];
  const chosen = await vscode.window.showQuickPick(entries, { title: running.status.words });
  await chosen?.run?.();
}

function run(name: string): () => Thenable<unknown> {
  return () => vscode.commands.executeCommand(`midspan.${name}`);
}

function openSettings(query: string): Thenable<unknown> {
  return vscode.commands.executeCommand('workbench.action.openSettings', query);
}

async function choosePause(status: Status): Promise<void> {
  const entries = SNOOZE_MINUTES.map((minutes) => ({ label: `${minutes} minutes`, minutes }));
  const chosen = await vscode.window.showQuickPick(entries, { title: 'Pause the suggestions of all extensions for' });
  if (chosen !== undefined) {
    await pause(status, chosen.minutes);
  }
}

/** Starts (or with 0 minutes ends) VS Code's own pause, which holds for every extension. */
async function pause(status: Status, minutes: number): Promise<void> {
  const own = 'editor.action.inlineSuggest.';
  await vscode.commands.executeCommand(own + (minutes > 0 ? 'snooze' : 'cancelSnooze'), minutes);
  status.pause(minutes);
}

async function toggleLanguage({ ask }: Running): Promise<void> {
  const id = vscode.window.activeTextEditor?.document.languageId;
  if (id === undefined) {
    void vscode.window.showInformationMessage('midspan: open a file of the language first');
    return;
  }
  const isOn = ((await ask<string[]>('midspan.languagesOn', [id])) ?? []).includes(id);
  await change('languages', { ...settings().get<Record<string, boolean>>('languages'), [id]: !isOn });
  void vscode.window.showInformationMessage(`midspan: ${id} is ${isOn ? 'off' : 'on'} now`);
}

async function why({ ask, status }: Running): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined) {
    void vscode.window.showInformationMessage('midspan: no file is open, so there is nowhere to show anything');
    return;
  }
  const reasons = await ask<string[]>('midspan.why', editor.document.uri.toString());
  const paused = status.paused ? ['suggestions are paused'] : [];
  const off = vscode.workspace.getConfiguration('editor', editor.document).get('inlineSuggest.enabled')
    ? []
    : ["VS Code's setting editor.inlineSuggest.enabled is off"];
  const found = [...off, ...paused, ...(reasons ?? [status.words])];
  await vscode.window.showInformationMessage(`midspan: ${found.join('; ')}`, 'OK');
}

async function doctor({ server, log, context }: Running): Promise<void> {
  const found = server();
  if (found === undefined) {
    await vscode.commands.executeCommand('midspan.install');
    return;
  }
  const options = { location: vscode.ProgressLocation.Notification, title: 'midspan: running the doctor' };
  const storage = context.globalStorageUri.fsPath;
  const text = await vscode.window.withProgress(options, () =>
    // It exits with 1 if something needs a fix, which its output names.
    output(found.command, commandArguments(found, 'doctor'), storage, DOCTOR_MS).catch((error: unknown) => said(error)),
  );
  log.info(`doctor (server found by ${found.foundBy}):\n${text}`);
  const document = await vscode.workspace.openTextDocument({ content: text, language: 'plaintext' });
  await vscode.window.showTextDocument(document);
}

async function model({ server, context }: Running): Promise<void> {
  const found = server();
  const open = (): Thenable<unknown> => openSettings('midspan.checkpoint');
  try {
    await (found ? chooseModel(found, context.globalStorageUri.fsPath, open) : open());
  } catch (error) {
    void vscode.window.showWarningMessage(said(error).trim());
  }
}

async function report({ server, context }: Running): Promise<void> {
  const found = server();
  try {
    await (found && showReport(found, context.globalStorageUri.fsPath));
  } catch (error) {
    void vscode.window.showWarningMessage(said(error).trim());
  }
}

/** The output of a program that failed, from whichever stream has some. */
function said(error: unknown): string {
  const failed = error as { stdout?: string; stderr?: string };
  return failed.stdout || failed.stderr || String(error);
}

async function openSample(context: vscode.ExtensionContext): Promise<void> {
  const text = await vscode.workspace.fs.readFile(vscode.Uri.joinPath(context.extensionUri, SAMPLE));
  const content = new TextDecoder().decode(text);
  await vscode.window.showTextDocument(await vscode.workspace.openTextDocument({ content, language: 'python' }));
}
