/**
 * Answers inline completion requests in time. VS Code holds back its own completion menu until every inline provider
 * has answered, for at most 750 ms. A request without an answer after PATIENCE_MS is therefore answered empty. The
 * server's answer is shown when it comes, if the cursor is still where the request was made.
 */

import * as vscode from 'vscode';
import type { Middleware } from 'vscode-languageclient/node';

export const PATIENCE_MS = 600;

type Items = vscode.InlineCompletionItem[] | vscode.InlineCompletionList | null | undefined;

interface Spot {
  readonly uri: string;
  readonly version: number;
  readonly position: vscode.Position;
}

/** Logs what became of a request. */
export type Told = (event: string, milliseconds: number) => void;

export class Punctual implements vscode.Disposable {
  private pending: vscode.CancellationTokenSource | undefined;
  private late: { spot: Spot; items: Items } | undefined;
  private readonly following: vscode.Disposable[];

  constructor(private readonly told: Told) {
    this.following = [
      vscode.workspace.onDidChangeTextDocument((event) => event.contentChanges.length > 0 && this.forget()),
      vscode.window.onDidChangeTextEditorSelection(() => this.late && !isHere(this.late.spot) && this.forget()),
    ];
  }

  readonly provide: NonNullable<Middleware['provideInlineCompletionItems']> = async (
    document,
    position,
    context,
    token,
    next,
  ) => {
    const spot: Spot = { uri: document.uri.toString(), version: document.version, position };
    if (this.late !== undefined && isSame(this.late.spot, spot)) {
      const { items } = this.late;
      this.late = undefined;
      return items;
    }
    if (context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke) {
      return next(document, position, context, token);
    }
    return this.inTime(spot, token, (own) => Promise.resolve(next(document, position, context, own)));
  };

  dispose(): void {
    this.forget();
    this.following.forEach((one) => one.dispose());
  }

  /** The answer if it comes in time; else an empty one, while the request goes on. */
  private async inTime(
    spot: Spot,
    token: vscode.CancellationToken,
    ask: (token: vscode.CancellationToken) => Promise<Items>,
  ): Promise<Items> {
    this.forget();
    // VS Code cancels its own token once it has an answer, even an empty one: a late answer needs another token.
    const own = new vscode.CancellationTokenSource();
    const listening = token.onCancellationRequested(() => own.cancel());
    this.pending = own;
    const began = Date.now();
    const answer = ask(own.token);
    const items = await Promise.race([answer, after(PATIENCE_MS)]);
    listening.dispose();
    if (items !== 'late') {
      return items;
    }
    this.told('answered empty', Date.now() - began);
    void answer.then((found) => !own.token.isCancellationRequested && this.offer(spot, found, Date.now() - began));
    return [];
  }

  private offer(spot: Spot, items: Items, milliseconds: number): void {
    const count = items && ('items' in items ? items.items.length : items.length);
    if (!count || !isHere(spot)) {
      return;
    }
    this.late = { spot, items };
    this.told('offered late', milliseconds);
    void vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
  }

  private forget(): void {
    this.pending?.cancel();
    this.pending = this.late = undefined;
  }
}

function after(milliseconds: number): Promise<'late'> {
  return new Promise((resolve) => setTimeout(() => resolve('late'), milliseconds));
}

function isSame(one: Spot, other: Spot): boolean {
  return one.uri === other.uri && one.version === other.version && one.position.isEqual(other.position);
}

/** Whether the cursor is still where the request was made. */
function isHere(spot: Spot): boolean {
  const editor = vscode.window.activeTextEditor;
  return (
    editor !== undefined &&
    isSame(spot, {
      uri: editor.document.uri.toString(),
      version: editor.document.version,
      position: editor.selection.active,
    })
  );
}
