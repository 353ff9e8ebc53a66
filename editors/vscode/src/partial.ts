/**
 * Recognises suggestions that are accepted in part, which VS Code tells no extension: an insertion of more than one
 * character that equals the next characters of the suggestion was accepted and not typed.
 */

import * as vscode from 'vscode';

interface Shown {
  readonly uri: string;
  readonly item: vscode.InlineCompletionItem;
  readonly text: string;
  /** The offset at which the suggestion begins, and how many of its characters the document has. */
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

  /** The items that are on screen from now on; VS Code shows the first one. */
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
    // The item's command reports a suggestion that is accepted whole.
    if (inserted.length > 1 && inserted.length < next.length) {
      this.tell(shown.item, shown.there);
    }
  }
}
