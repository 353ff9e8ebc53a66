/** midspan's extension for VS Code: finds the server, starts it, and shows its state. */

import { mkdir } from 'node:fs/promises';
import * as vscode from 'vscode';
import { Client } from './client.js';
import { registerCommands } from './commands.js';
import { CannotInstall, install } from './install.js';
import { isWanted, remember, selectorOf, servedLanguages } from './languages.js';
import { findServer, NotFound, type Server } from './server.js';
import { STARTED_WITH } from './settings.js';
import { Status } from './status.js';

const SET_UP = 'Set Up';
const AGAIN = 'Try Again';
const CHOOSE = 'Settings';
const OFFER = 'midspan needs its server, a Python program. Set one up in an environment of its own? It takes about 1 GB.';

let client: Client | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel('midspan', { log: true });
  const languages = servedLanguages(context);
  const status = new Status(selectorOf(languages));
  const storage = context.globalStorageUri.fsPath;
  await mkdir(storage, { recursive: true });
  const own = (client = new Client(log, status, languages, storage, (on) => remember(context, on)));
  context.subscriptions.push(log, status, own);
  let server: Server | undefined;

  let begun = false;
  let starting = Promise.resolve();
  let newest = 0;
  /** Finds and starts a server; offers the set-up if there is none. One at a time: only the newest has the settings. */
  const start = (): Promise<void> => {
    begun = true;
    const mine = ++newest;
    return (starting = starting.then(() => (mine === newest ? startNow() : undefined)));
  };

  const startNow = async (): Promise<void> => {
    try {
      server = await findServer(storage, (line) => log.warn(line));
      if (server === undefined) {
        await own.stop();
        status.set('missing', 'no server was found; the menu sets one up');
        void offer(OFFER, SET_UP);
        return;
      }
      await own.start(server);
    } catch (error) {
      if (error instanceof NotFound) {
        // The one that runs is not the one that the settings name. Thrown from here, no later start would run.
        await own.stop().catch((failure: unknown) => log.error(String(failure)));
        status.set('error', error.message);
      }
      log.error(String(error));
      void offer(error instanceof Error ? error.message : String(error), SET_UP);
    }
  };

  const setUp = async (): Promise<void> => {
    try {
      await starting;
      await own.stop();
      status.set('starting', 'setting up the environment');
      await install(context, log);
      await start();
    } catch (error) {
      log.error(String(error));
      const cancelled = error instanceof vscode.CancellationError;
      const reason = cancelled ? 'the set-up was cancelled' : (error as Error).message;
      status.set('missing', reason);
      void offer(error instanceof CannotInstall || cancelled ? reason : `${reason}; the log has more`, AGAIN);
    }
  };

  const offer = async (message: string, action: string): Promise<void> => {
    const line = message.startsWith('midspan') ? message : `midspan: ${message}`;
    const choice = await vscode.window.showWarningMessage(line, action, CHOOSE);
    if (choice === CHOOSE) {
      await vscode.commands.executeCommand('workbench.action.openSettings', 'midspan.interpreter');
    } else if (choice !== undefined) {
      await setUp();
    }
  };

  const startIfWanted = (): void => {
    if (!begun && isWanted(context)) {
      void start();
    }
  };

  const ask: Client['ask'] = (command, ...args) => own.ask(command, ...args);
  registerCommands({ context, log, status, server: () => server, ask, restart: start, setUp });
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (begun && STARTED_WITH.some((name) => event.affectsConfiguration(name))) {
        void start();
      } else {
        startIfWanted();
      }
    }),
    vscode.workspace.onDidOpenTextDocument(startIfWanted),
    // Once a folder is trusted, its settings may name a server.
    vscode.workspace.onDidGrantWorkspaceTrust(() => begun && void start()),
  );
  status.set('off', 'starts with the first file in a language that is on');
  startIfWanted();
}

export async function deactivate(): Promise<void> {
  await client?.stop();
}
