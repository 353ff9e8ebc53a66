/** The live draft: the network's fill so far (midspan/frame), drawn behind the cursor until the suggestion comes. */

import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';

interface Frame {
  readonly uri: string;
  readonly version: number;
  readonly position: { readonly line: number; readonly character: number };
  readonly text: string;
  readonly settled: boolean;
}

const CLEAR_MS = 1000;

export class Draft implements vscode.Disposable {
  private readonly decoration = vscode.window.createTextEditorDecorationType({
    after: { color: new vscode.ThemeColor('editorGhostText.foreground'), fontStyle: 'italic' },
  });
  private readonly listening: vscode.Disposable[];
  private timer: NodeJS.Timeout | undefined;

  constructor(client: LanguageClient) {
    this.listening = [
      client.onNotification('midspan/frame', (frame: Frame) => this.draw(frame)),
      vscode.workspace.onDidChangeTextDocument(() => this.clear()),
      vscode.window.onDidChangeTextEditorSelection(() => this.clear()),
    ];
  }

  dispose(): void {
    this.clear();
    this.decoration.dispose();
    this.listening.forEach((one) => one.dispose());
  }

  private draw(frame: Frame): void {
    this.clear();
    const editor = vscode.window.visibleTextEditors.find((one) => one.document.uri.toString() === frame.uri);
    if (editor === undefined || editor.document.version !== frame.version || frame.settled) {
      return;
    }
    const place = new vscode.Position(frame.position.line, frame.position.character);
    // Plain spaces at the ends of a decoration's text are not drawn.
    const contentText = (frame.text.split('\n')[0] ?? '').replaceAll(' ', '\u00a0');
    editor.setDecorations(this.decoration, [{ range: new vscode.Range(place, place), renderOptions: { after: { contentText } } }]);
    // If the request ends without a suggestion, its last frame must not stay.
    this.timer = setTimeout(() => this.clear(), CLEAR_MS);
  }

  clear(): void {
    clearTimeout(this.timer);
    for (const editor of vscode.window.visibleTextEditors) {
      editor.setDecorations(this.decoration, []);
    }
  }
}
