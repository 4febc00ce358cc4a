/** What people see: colours where a terminal wants them. */

/** NO_COLOR and FORCE_COLOR are honoured (no-color.org). */
export function wantsColor(stream: { isTTY?: boolean }, environment = process.env): boolean {
  if (environment['NO_COLOR'] !== undefined && environment['NO_COLOR'] !== '') return false;
  const forced = environment['FORCE_COLOR'] ?? '';
  if (forced !== '' && forced !== '0') return true;
  return stream.isTTY === true;
}

export interface Palette {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
}

export function palette(color: boolean): Palette {
  const code = (open: number, close: number) => (text: string) => (color ? `\x1b[${open}m${text}\x1b[${close}m` : text);
  return { bold: code(1, 22), dim: code(2, 22), red: code(31, 39), green: code(32, 39) };
}

export function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}

/** Talk goes to stderr, data to stdout. */
export function warn(line: string): void {
  process.stderr.write(`pillion: ${line}\n`);
}
