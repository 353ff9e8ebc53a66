/** The report as a page in the editor: what became of the suggestions, from the local log. */

import { readFile, rm } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { output } from './python.js';
import type { Server } from './server.js';

/** Allows the page's own styles and nothing else: no scripts, addresses or images. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";
const LOOK =
  'body{color:var(--vscode-foreground);background:var(--vscode-editor-background);' +
  'font:var(--vscode-font-size) var(--vscode-font-family)}';

/** Runs the server's program to write the page, and shows it. Rejects with the program's error. */
export async function showReport(server: Server, storage: string): Promise<void> {
  const page = path.join(storage, 'report.html');
  await output(server.command, [...commandArguments(server, 'report'), '--html', page], storage);
  const written = await readFile(page, 'utf8');
  await rm(page);
  const panel = vscode.window.createWebviewPanel('midspan.report', 'midspan report', vscode.ViewColumn.Active, {
    enableScripts: false,
    localResourceRoots: [],
  });
  panel.webview.html = withPolicy(written);
}

export function withPolicy(page: string): string {
  const head = `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`;
  return page.replace(/<head>|(?=<title>)/, (found) => `${found}${head}`).replace('</style>', `${LOOK}</style>`);
}

/** The arguments that run another command of the server's program, with the options of `serve`. */
export function commandArguments(server: Server, name: string): string[] {
  const at = server.args.indexOf('serve');
  return at < 0 ? [...server.args, name] : [...server.args.slice(0, at), name, ...server.args.slice(at + 1)];
}
