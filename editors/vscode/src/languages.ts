/** Which languages midspan may be asked about: those of package.json's activation events. */

import * as vscode from 'vscode';

const EVENT = 'onLanguage:';
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
