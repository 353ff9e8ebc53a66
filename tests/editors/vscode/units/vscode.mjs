// Stands in for the module `vscode`: what finding, installing and choosing use of it, and nothing else.

/** What a test sets, and what it reads afterwards. */
export const scene = {};

export function reset() {
  for (const name of Object.keys(scene)) delete scene[name];
  Object.assign(scene, { settings: {}, inWorkspace: {}, extensions: {}, progress: [], told: [], free: Infinity });
  workspace.isTrusted = true;
  workspace.workspaceFolders = undefined;
}

export const ConfigurationTarget = { Global: 1, Workspace: 2, WorkspaceFolder: 3 };
export const ProgressLocation = { SourceControl: 1, Window: 10, Notification: 15 };
export const QuickPickItemKind = { Separator: -1, Default: 0 };
export const Uri = { file: (fsPath) => ({ scheme: 'file', fsPath, toString: () => `file://${fsPath}` }) };

export class CancellationError extends Error {}

export class CancellationTokenSource {
  #listeners = new Set();

  constructor() {
    this.token = {
      isCancellationRequested: false,
      onCancellationRequested: (listener) => {
        if (this.token.isCancellationRequested) setTimeout(listener, 0);
        else this.#listeners.add(listener);
        return { dispose: () => this.#listeners.delete(listener) };
      },
    };
  }

  cancel() {
    this.token.isCancellationRequested = true;
    for (const listener of this.#listeners) listener();
  }
}

export const workspace = {
  isTrusted: true,
  workspaceFolders: undefined,
  getConfiguration(section) {
    if (section !== 'midspan') throw new Error(`no settings of ${section} here`);
    return {
      get: (name, otherwise) => scene.inWorkspace[name] ?? scene.settings[name] ?? otherwise,
      inspect: (name) => ({ globalValue: scene.settings[name], workspaceValue: scene.inWorkspace[name] }),
      update: async (name, value, target) => {
        (target === ConfigurationTarget.Workspace ? scene.inWorkspace : scene.settings)[name] = value;
      },
    };
  },
};

export const extensions = {
  getExtension(id) {
    const activate = scene.extensions[id];
    return activate && { id, activate };
  },
};

export const window = {
  /** Each message of the progress is told to `scene.onProgress`, which may cancel. */
  async withProgress(options, task) {
    const source = new CancellationTokenSource();
    const report = ({ message }) => {
      scene.progress.push(message);
      scene.onProgress?.(message, source);
    };
    return task({ report }, source.token);
  },
  async showInformationMessage(message) {
    scene.told.push(message);
  },
  /** Keeps what was offered, and chooses by `scene.choose`. */
  async showQuickPick(items, options) {
    scene.offered = { items, ...options };
    return items.find((item) => scene.choose?.(item));
  },
};

reset();
