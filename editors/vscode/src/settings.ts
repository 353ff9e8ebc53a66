/** The server's own settings as VS Code has them, and what of a section the server is told. */

import * as vscode from 'vscode';

export const SECTION = 'midspan';
/** Names as in server/settings.py; package.json mirrors their defaults, and a test compares both. */
export const SERVERS = [
  'enable',
  'preview',
  'telemetry',
  'steps',
  'deadline_ms',
  'show_threshold',
  'debounce_ms',
  'quiet',
  'disable',
  'exclude',
  'languages',
] as const;
/** A change of these starts the server anew. */
export const STARTED_WITH = ['path', 'interpreter', 'checkpoint', 'device'].map((name) => `${SECTION}.${name}`);

export function settings(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration(SECTION);
}

/** What the server is told: its own keys alone, as it names any other key an error; and that its status is wanted. */
export function forServer(): Record<string, unknown> {
  const all = settings();
  const own: Record<string, unknown> = { status: true };
  for (const name of SERVERS) {
    own[name] = all.get(name);
  }
  return own;
}

/** Changes a setting where it is set already, else for the user. */
export async function change(name: string, value: unknown): Promise<void> {
  const found = settings().inspect(name);
  const inWorkspace = found?.workspaceValue !== undefined;
  await settings().update(name, value, inWorkspace ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global);
}
