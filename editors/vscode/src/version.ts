/** Versions of the server that this extension supports. */

export const OLDEST_SERVER: readonly number[] = [0, 1, 0];

/** Whether a version, such as `0.9.2`, comes before another. */
export function isOlder(version: string, than: readonly number[] = OLDEST_SERVER): boolean {
  const numbers = version.split('.').map((one) => Number.parseInt(one, 10) || 0);
  const at = than.findIndex((number, place) => (numbers[place] ?? 0) !== number);
  return at >= 0 && (numbers[at] ?? 0) < (than[at] ?? 0);
}
