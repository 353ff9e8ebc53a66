/** Which languages midspan may be asked about: those of package.json's activation events. */

import * as vscode from 'vscode';
import { settings } from './settings.js';

const EVENT = 'onLanguage:';
const REMEMBERED = 'languagesOn';
const SCHEMES = ['file', 'untitled', 'vscode-notebook-cell', 'vscode-remote'];

/** The ids of all languages that the server has a grammar of, as VS Code calls them. */
export function servedLanguages(context: vscode.ExtensionContext): string[] {
  const manifest = context.extension.packageJSON as { activationEvents: string[] };
  return manifest.activationEvents.filter((one) => one.startsWith(EVENT)).map((one) => one.slice(EVENT.length));
}

/** Documents in these languages; an output channel or a diff's old side is none. */
export function selectorOf(languages: readonly string[]): { language: string; scheme: string }[] {
  return languages.flatMap((language) => SCHEMES.map((scheme) => ({ language, scheme })));
}

/** Keeps which languages were on, so that the next window starts no server for a file of another. */
export function remember(context: vscode.ExtensionContext, on: readonly string[]): void {
  void context.globalState.update(REMEMBERED, on);
}

/** Whether a file is open that a server would likely have something to say about. */
export function isWanted(context: vscode.ExtensionContext): boolean {
  const chosen = settings().get<Record<string, boolean>>('languages', {});
  const on = context.globalState.get<string[]>(REMEMBERED, ['python']);
  // The settings may call a language otherwise than VS Code does; the server knows both names.
  const anyChosen = Object.values(chosen).includes(true);
  return anyChosen || vscode.workspace.textDocuments.some(({ languageId }) => on.includes(languageId));
}
