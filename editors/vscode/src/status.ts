/** The language status item: shows the server's state in words and opens the menu. */

import * as vscode from 'vscode';

export type State = 'starting' | 'missing' | 'loading' | 'ready' | 'working' | 'degraded' | 'off' | 'error';

const WORDS: Record<State, string> = {
  starting: 'starting',
  missing: 'not set up',
  loading: 'loading',
  ready: 'ready',
  working: 'working',
  degraded: 'needs a fix',
  off: 'off',
  error: 'does not run',
};

export class Status implements vscode.Disposable {
  private readonly item: vscode.LanguageStatusItem;
  private state: State = 'starting';
  private message = '';
  private pausedUntil = 0;
  private timer: NodeJS.Timeout | undefined;
  private lastMs: number | undefined;

  constructor(selector: vscode.DocumentSelector) {
    this.item = vscode.languages.createLanguageStatusItem('midspan.status', selector);
    this.item.name = 'midspan';
    this.item.command = { command: 'midspan.menu', title: 'Menu' };
    this.show();
  }

  get words(): string {
    return `${this.item.text}${this.item.detail ? `: ${this.item.detail}` : ''}`;
  }

  set(state: State, message: string): void {
    this.state = state;
    this.message = message;
    this.show();
  }

  /** Shows the time of the last suggestion, from VS Code's request to the answer. */
  took(milliseconds: number): void {
    this.lastMs = Math.round(milliseconds);
    this.show();
  }

  /** Shows a pause that was started in midspan's menu; VS Code does not tell extensions of other pauses. */
  pause(minutes: number): void {
    clearTimeout(this.timer);
    this.pausedUntil = Date.now() + minutes * 60_000;
    this.timer = minutes > 0 ? setTimeout(() => this.show(), minutes * 60_000) : undefined;
    this.show();
  }

  get paused(): boolean {
    return Date.now() < this.pausedUntil;
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.item.dispose();
  }

  private show(): void {
    const paused = this.paused && (this.state === 'ready' || this.state === 'working');
    this.item.text = `midspan: ${paused ? 'paused' : WORDS[this.state]}`;
    this.item.busy = this.state === 'starting' || this.state === 'loading' || this.state === 'working';
    const last = this.lastMs === undefined ? '' : `; last suggestion in ${this.lastMs} ms`;
    const until = paused ? `until ${new Date(this.pausedUntil).toLocaleTimeString()}; ` : '';
    this.item.detail = until + this.message + (this.state === 'ready' ? last : '');
    this.item.severity = severityOf(this.state);
  }
}

function severityOf(state: State): vscode.LanguageStatusSeverity {
  if (state === 'error' || state === 'missing') {
    return vscode.LanguageStatusSeverity.Error;
  }
  return state === 'degraded' ? vscode.LanguageStatusSeverity.Warning : vscode.LanguageStatusSeverity.Information;
}
