/** midspan's settings in VS Code, and the ones that are sent to the server. */

import * as vscode from 'vscode';

export const SECTION = 'midspan';
/** The server's settings, named as in server/settings.py; package.json has the same defaults, which a test compares. */
export const SERVERS = [
  'enable',
  'preview',
  'telemetry',
  'telemetry_days',
  'steps',
  'deadline_ms',
  'show_threshold',
  'debounce_ms',
  'quiet',
  'disable',
  'exclude',
  'languages',
  'engine',
  'privacy',
  'confirm_rewrites',
  'schemas',
] as const;
/** A change of one of these restarts the server: one that runs lets `privacy` be narrowed only. */
export const STARTED_WITH = ['path', 'interpreter', 'checkpoint', 'device', 'privacy'].map((name) => `${SECTION}.${name}`);

export function settings(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration(SECTION);
}

/** The settings for the server: its own keys only, as any other is an error there, and `status`, to get its status. */
export function forServer(): Record<string, unknown> {
  const all = settings();
  const own: Record<string, unknown> = { status: true };
  for (const name of SERVERS) {
    own[name] = all.get(name);
  }
  return own;
}

/** Changes a setting in the workspace if it is set there, else for the user. */
export async function change(name: string, value: unknown): Promise<void> {
  const found = settings().inspect(name);
  const inWorkspace = found?.workspaceValue !== undefined;
  await settings().update(name, value, inWorkspace ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global);
}
