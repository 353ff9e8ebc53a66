/** The languages that midspan serves: those of package.json's activation events. */

import * as vscode from 'vscode';
import { settings } from './settings.js';

const EVENT = 'onLanguage:';
const REMEMBERED = 'languagesOn';
const SCHEMES = ['file', 'untitled', 'vscode-notebook-cell', 'vscode-remote'];

/** VS Code's ids of all languages that the server has a grammar for. */
export function servedLanguages(context: vscode.ExtensionContext): string[] {
  const manifest = context.extension.packageJSON as { activationEvents: string[] };
  return manifest.activationEvents.filter((one) => one.startsWith(EVENT)).map((one) => one.slice(EVENT.length));
}

/** Selects documents in these languages; not output channels, nor the old side of a diff. */
export function selectorOf(languages: readonly string[]): { language: string; scheme: string }[] {
  return languages.flatMap((language) => SCHEMES.map((scheme) => ({ language, scheme })));
}

/** Remembers which languages were on, so that the next window starts no server for a file in another one. */
export function remember(context: vscode.ExtensionContext, on: readonly string[]): void {
  void context.globalState.update(REMEMBERED, on);
}

/** Whether a file is open in a language that is likely on. */
export function isWanted(context: vscode.ExtensionContext): boolean {
  const chosen = settings().get<Record<string, boolean>>('languages', {});
  const on = context.globalState.get<string[]>(REMEMBERED, ['python']);
  // The settings may name a language differently from VS Code; the server knows both names.
  const anyChosen = Object.values(chosen).includes(true);
  return anyChosen || vscode.workspace.textDocuments.some(({ languageId }) => on.includes(languageId));
}
