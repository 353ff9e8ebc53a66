/** The server's process and its language client: start, restart, stop. */

import * as vscode from 'vscode';
import {
  CloseAction,
  DidChangeConfigurationNotification,
  type DynamicFeature,
  ErrorAction,
  ExecuteCommandRequest,
  type InlineCompletionRegistrationOptions,
  InlineCompletionRequest,
  LanguageClient,
  type LanguageClientOptions,
  State,
  type StaticFeature,
} from 'vscode-languageclient/node';
import { Draft } from './draft.js';
import { Punctual } from './inline.js';
import { Partial } from './partial.js';
import { selectorOf } from './languages.js';
import type { Server } from './server.js';
import { forServer } from './settings.js';
import type { State as Shown, Status } from './status.js';
import { isOlder, OLDEST_SERVER } from './version.js';

const RESTARTS = 4;
const WITHIN_MS = 180_000;
const REGISTRATION = 'midspan-inline';
type InlineFeature = DynamicFeature<InlineCompletionRegistrationOptions> & StaticFeature;

export class Client implements vscode.Disposable {
  private client: LanguageClient | undefined;
  private punctual: Punctual | undefined;
  private draft: Draft | undefined;
  private partial: Partial | undefined;
  private crashes: number[] = [];
  private registered = '';

  constructor(
    private readonly log: vscode.LogOutputChannel,
    private readonly status: Status,
    private readonly languages: readonly string[],
    private readonly storage: string,
    private readonly nowOn: (languages: readonly string[]) => void,
  ) {}

  get running(): boolean {
    return this.client?.state === State.Running;
  }

  /** Stops the server that runs and starts this one. If it does not start, sets the status to that and rejects. */
  async start(server: Server): Promise<void> {
    await this.stop();
    this.log.info(`starting ${[server.command, ...server.args].join(' ')}, found by ${server.foundBy}`);
    this.status.set('starting', `found by ${server.foundBy}`);
    // Python imports from the folder that it starts in, so that must not be the user's.
    const run = { command: server.command, args: [...server.args], options: { cwd: this.storage } };
    this.punctual = new Punctual((event, ms) => this.log.info(`a suggestion was ${event} after ${Math.round(ms)} ms`));
    const client = (this.client = new LanguageClient('midspan', 'midspan', run, this.options()));
    this.draft = new Draft(client);
    this.partial = new Partial((item, acceptedLength) => {
      const told = { insertText: item.insertText, command: item.command };
      void client.sendNotification('textDocument/didPartiallyAcceptCompletion', { item: told, acceptedLength });
    });
    this.inlineFeature(client).initialize = () => undefined; // Registered later, for the languages that are on.
    client.onNotification('midspan/status', (told: { state: Shown; message: string }) => this.follow(client, told));
    try {
      await client.start();
    } catch (error) {
      this.status.set('error', `the server did not start: ${String(error)}; see the log`);
      throw error;
    }
    const version = client.initializeResult?.serverInfo?.version ?? '0';
    if (isOlder(version)) {
      await this.stop();
      this.status.set('error', `midspan ${version} is older than ${OLDEST_SERVER.join('.')}; run ${server.upgrade}`);
      throw new Error(`midspan ${version} is too old for this extension; run ${server.upgrade}`);
    }
  }

  async stop(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    this.registered = '';
    this.punctual?.dispose();
    this.draft?.dispose();
    this.partial?.dispose();
    if (client?.needsStop()) {
      await client.stop();
    }
    await client?.dispose();
  }

  /** Runs one of the server's commands; undefined while it does not run. */
  async ask<T>(command: string, ...args: unknown[]): Promise<T | undefined> {
    if (!this.running) {
      return undefined;
    }
    return this.client?.sendRequest(ExecuteCommandRequest.type, { command, arguments: args }) as Promise<T>;
  }

  dispose(): void {
    void this.stop();
  }

  private options(): LanguageClientOptions {
    const punctual = this.punctual;
    return {
      documentSelector: selectorOf(this.languages),
      initializationOptions: forServer(),
      outputChannel: this.log,
      stdioOptions: {
        stdout: (input, channel) => input.on('data', (data) => channel.info(String(data).trimEnd())),
        stderr: (input, channel) => input.on('data', (data) => channel.info(String(data).trimEnd())),
      },
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue }),
        closed: () => this.closed(),
      },
      middleware: {
        provideInlineCompletionItems: async (document, position, context, token, next) => {
          const began = Date.now();
          const items = await punctual?.provide(document, position, context, token, next);
          this.draft?.clear();
          const list = items && 'items' in items ? items.items : (items ?? []);
          if (list.length > 0) {
            this.partial?.offered(document, position, list);
            this.status.took(Date.now() - began);
          }
          return items;
        },
        workspace: {
          configuration: (params) => params.items.map(() => forServer()),
          didChangeConfiguration: async () => {
            await this.client?.sendNotification(DidChangeConfigurationNotification.type, {
              settings: { midspan: forServer() },
            });
            await this.register();
          },
        },
      },
    };
  }

  private inlineFeature(client: LanguageClient): InlineFeature {
    // The library's overloads name its older features only.
    const get = client.getFeature as unknown as (method: string) => InlineFeature;
    return get.call(client, InlineCompletionRequest.method);
  }

  private follow(client: LanguageClient, told: { state: Shown; message: string }): void {
    this.log.info(`${told.state}: ${told.message}`);
    // The status becomes ready only after inline completion is registered, and never for a server that was stopped.
    void this.register().then(() => {
      if (client === this.client) {
        this.status.set(told.state, told.message);
        void vscode.commands.executeCommand('setContext', 'midspan.running', told.state === 'ready');
      }
    });
  }

  /** Registers inline completion for languages that are on, so that others send no requests and wait for no answer. */
  private async register(): Promise<void> {
    const client = this.client;
    const on = (await this.ask<string[]>('midspan.languagesOn', this.languages)) ?? [];
    if (client === undefined || client !== this.client || on.join() === this.registered) {
      return;
    }
    this.registered = on.join();
    const feature = this.inlineFeature(client);
    feature.unregister(REGISTRATION);
    if (on.length > 0) {
      this.nowOn(on);
      this.log.info(`suggestions are on in ${on.join(', ')}`);
      feature.register({ id: REGISTRATION, registerOptions: { documentSelector: selectorOf(on) } });
    }
  }

  private closed(): { action: CloseAction; handled: true } {
    this.registered = '';
    const now = Date.now();
    this.crashes = [...this.crashes.filter((at) => now - at < WITHIN_MS), now];
    const again = this.crashes.length <= RESTARTS;
    const message = again
      ? 'midspan: the server had stopped and was started again'
      : `midspan: the server stopped ${this.crashes.length} times in three minutes; its log says why`;
    if (again) {
      this.status.set('starting', 'the server had stopped');
    } else {
      this.status.set('error', 'the server stops again and again; see the log, then restart it');
    }
    void vscode.window.showWarningMessage(message, 'Show Log', 'Restart').then((choice) => {
      if (choice !== undefined) {
        void vscode.commands.executeCommand(choice === 'Restart' ? 'midspan.restart' : 'midspan.log');
      }
    });
    return { action: again ? CloseAction.Restart : CloseAction.DoNotRestart, handled: true };
  }
}
