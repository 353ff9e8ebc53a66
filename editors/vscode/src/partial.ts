/**
 * Suggestions taken in part. VS Code tells no extension of that, so it is read off the document: text of more than one
 * character that comes at once, and is what the suggestion says next, was taken and not typed.
 */

import * as vscode from 'vscode';

interface Shown {
  readonly uri: string;
  readonly item: vscode.InlineCompletionItem;
  readonly text: string;
  /** Where the suggestion begins, as an offset, and how much of it stands there. */
  readonly begin: number;
  there: number;
}

export type Tell = (item: vscode.InlineCompletionItem, acceptedLength: number) => void;

export class Partial implements vscode.Disposable {
  private shown: Shown | undefined;
  private readonly following: vscode.Disposable;

  constructor(private readonly tell: Tell) {
    this.following = vscode.workspace.onDidChangeTextDocument((event) => this.follow(event));
  }

  /** These items are on screen from now on, the first of them at first. */
  offered(document: vscode.TextDocument, position: vscode.Position, items: readonly vscode.InlineCompletionItem[]): void {
    const item = items[0];
    const text = typeof item?.insertText === 'string' ? item.insertText : '';
    const begin = document.offsetAt(item?.range?.start ?? position);
    const there = document.offsetAt(position) - begin;
    this.shown = item && text ? { uri: document.uri.toString(), item, text, begin, there } : undefined;
  }

  dispose(): void {
    this.following.dispose();
  }

  private follow(event: vscode.TextDocumentChangeEvent): void {
    const { shown } = this;
    const change = event.contentChanges[0];
    if (shown === undefined || change === undefined || event.document.uri.toString() !== shown.uri) {
      return;
    }
    const inserted = change.text;
    const next = shown.text.slice(shown.there);
    const isNext = change.rangeOffset === shown.begin + shown.there && change.rangeLength === 0 && next.startsWith(inserted);
    if (!isNext || event.contentChanges.length !== 1) {
      this.shown = undefined;
      return;
    }
    shown.there += inserted.length;
    // Of one that is taken whole its command tells.
    if (inserted.length > 1 && inserted.length < next.length) {
      this.tell(shown.item, shown.there);
    }
  }
}
