// Lets Node load the extension's source as it is: types are stripped, `vscode` is the one beside this file, and free space
// is what a test says.
import { registerHooks } from 'node:module';

const SOURCE = new URL('../../../../editors/vscode/src/', import.meta.url).href;
const STANDS_IN = {
  vscode: new URL('vscode.mjs', import.meta.url).href,
  'node:fs/promises': new URL('disk.mjs', import.meta.url).href,
};

registerHooks({
  resolve(name, context, next) {
    if (!context.parentURL?.startsWith(SOURCE)) return next(name, context);
    const stands = STANDS_IN[name];
    if (stands) return { url: stands, shortCircuit: true };
    return next(name.startsWith('./') ? name.replace(/\.js$/, '.ts') : name, context);
  },
  load(url, context, next) {
    // The nearest package.json does not say which kind of module a file of the source is.
    return next(url, url.startsWith(SOURCE) ? { ...context, format: 'module-typescript' } : context);
  },
});
