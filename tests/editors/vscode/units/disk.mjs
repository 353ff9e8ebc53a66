// Stands in for node:fs/promises: the real one, on a disk that has as much room as a test says.
import { scene } from './vscode.mjs';

export * from 'node:fs/promises';

const BLOCK = 4096;

export async function statfs() {
  return { bsize: BLOCK, bavail: Math.floor(scene.free / BLOCK) };
}
