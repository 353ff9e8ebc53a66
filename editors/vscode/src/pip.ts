/** Runs pip: shows what it downloads and how much is left as progress, and ends it when the user cancels. */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import * as vscode from 'vscode';

type Progress = vscode.Progress<{ message?: string }>;
const MEGABYTE = 1e6;

export class Pip {
  constructor(
    private readonly python: string,
    private readonly cwd: string,
    private readonly log: vscode.LogOutputChannel,
    private readonly progress: Progress,
    private readonly token: vscode.CancellationToken,
  ) {}

  /** `pip install ARGS`, named `what` in the progress. Rejects with pip's first error or last line, or when cancelled. */
  async run(what: string, args: readonly string[]): Promise<void> {
    this.progress.report({ message: `installing ${what}` });
    // A new environment's pip may be too old for the raw progress bar.
    const bar = what === 'pip' ? [] : ['--progress-bar', 'raw'];
    const child = spawn(this.python, ['-m', 'pip', 'install', '--disable-pip-version-check', ...bar, ...args], {
      cwd: this.cwd,
      windowsHide: true,
    });
    const cancelling = this.token.onCancellationRequested(() => child.kill());
    let last = '';
    let error = '';
    let fetched = what;
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream).on('line', (line) => {
        const bytes = /^Progress (\d+) of (\d+)/.exec(line);
        if (bytes !== null) {
          this.report(fetched, Number(bytes[1]), Number(bytes[2]));
          return;
        }
        this.log.info(line);
        last = line.trim() || last;
        // The first says what is wrong, those behind it where pip's manual is.
        error ||= line.startsWith('ERROR') ? line : '';
        const named = /^\s*(?:Downloading|Using cached|Collecting) (?:\S*\/)?(\S+)/.exec(line)?.[1];
        fetched = named?.split(/[-=<>;]/)[0] ?? fetched;
        this.progress.report({ message: /^Installing/.test(line) ? `unpacking ${what}` : `installing ${what}: ${fetched}` });
      });
    }
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    cancelling.dispose();
    if (this.token.isCancellationRequested) {
      throw new vscode.CancellationError();
    }
    if (code !== 0) {
      throw new Error(`pip could not install ${what}: ${error || last}`);
    }
  }

  private report(fetched: string, done: number, total: number): void {
    const left = Math.max(0, total - done) / MEGABYTE;
    const size = `${(done / MEGABYTE).toFixed(0)} of ${(total / MEGABYTE).toFixed(0)} MB`;
    this.progress.report({ message: `fetching ${fetched}: ${size}, ${left.toFixed(0)} MB left` });
  }
}
