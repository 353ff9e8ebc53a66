/** The choice of a model among those at hand, as the server's program lists them. */

import * as vscode from 'vscode';
import { output } from './python.js';
import { commandArguments } from './report.js';
import type { Server } from './server.js';
import { change, settings } from './settings.js';

const LISTING_MS = 60_000;

/** An entry of `midspan models --json`. */
interface Model {
  readonly name: string;
  readonly checkpoint: string;
  readonly program: string;
  readonly licence: string | null;
  readonly problem: string | null;
  readonly chosen: boolean;
}

interface Listing {
  readonly at_hand: readonly Model[];
  readonly to_fetch: readonly { readonly get: string; readonly fits: boolean }[];
}

type Entry = vscode.QuickPickItem & { readonly run?: () => unknown };

/** Offers the models that run here. The chosen one becomes the setting `midspan.checkpoint`; nothing is fetched. */
export async function chooseModel(server: Server, storage: string, openSettings: () => unknown): Promise<void> {
  const named = settings().get<string | string[]>('path', '');
  if (typeof named !== 'string' && named.length > 0) {
    void vscode.window.showInformationMessage('midspan: the command in midspan.path chooses the model; add --checkpoint to it');
    return;
  }
  const asked = [...commandArguments(server, 'models'), '--json', '--no-estimate'];
  const listed = JSON.parse(await output(server.command, asked, storage, LISTING_MS)) as Listing;
  const commands = listed.to_fetch.filter((one) => one.fits).map((one) => one.get);
  const entries: Entry[] = [
    ...listed.at_hand.filter((one) => one.problem === null).map(entryOf),
    { label: 'more', kind: vscode.QuickPickItemKind.Separator },
    { label: '$(settings-gear) Another, and the device', run: openSettings },
    ...(commands.length > 0 ? [{ label: '$(cloud-download) Others to fetch in a terminal', detail: commands.join(', ') }] : []),
  ];
  const chosen = await vscode.window.showQuickPick(entries, { title: 'Models at hand' });
  await chosen?.run?.();
}

function entryOf(model: Model): Entry {
  return {
    label: `${model.chosen ? '$(check) ' : ''}${model.name}`,
    description: `${model.program}; licence: ${model.licence ?? 'not stated'}`,
    run: () => change('checkpoint', model.checkpoint),
  };
}
