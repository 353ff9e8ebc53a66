/** The report as a page in the editor: what became of the suggestions, from the local log. */

import { readFile, rm } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { output } from './python.js';
import type { Server } from './server.js';

/** No script, no address, no picture: styles that stand in the page, and nothing else. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";
const LOOK =
  'body{color:var(--vscode-foreground);background:var(--vscode-editor-background);' +
  'font:var(--vscode-font-size) var(--vscode-font-family)}';

/** Has the server's own program write the page, and shows it. Rejects with what the program said. */
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

/** How the server's program is asked for another of its commands than `serve`, with the same options. */
export function commandArguments(server: Server, name: string): string[] {
  const at = server.args.indexOf('serve');
  return at < 0 ? [...server.args, name] : [...server.args.slice(0, at), name, ...server.args.slice(at + 1)];
}
