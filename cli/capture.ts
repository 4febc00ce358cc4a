/** `pillion capture`: writes, shows and removes the iptables rules that lead a pod's connections through the proxy. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { captureOptions, type CaptureValues } from './capture_flags.ts';
import { type Family, natRules, removeInput, restoreInput, shownRules, type Table } from './capture_rules.ts';
import { mangleRules, ROUTES } from './capture_transparent.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { say } from './print.ts';

/** @throws {CommandError} */
export function capture(values: CaptureValues): number {
  const families = familiesHere();
  if (values['show'] === true) {
    for (const family of families) {
      for (const table of TABLES) {
        for (const line of shownRules(saved(family, table))) say(`${shownName(family, table)}: ${line}`);
      }
    }
    return exitCodes.fine;
  }
  if (values['remove'] === true) {
    for (const family of families) {
      for (const table of TABLES) restore(family, removeInput(table, saved(family, table)));
      routes(family, 'del');
    }
    if (families.includes('v6')) proxySource('del');
    return exitCodes.fine;
  }
  const options = captureOptions(values);
  if (values['dryRun'] === true) {
    for (const family of families) {
      for (const rule of mangleRules(options, family)) say(`${nameOf(family)} -t mangle ${rule}`);
      for (const rule of natRules(options, family)) say(`${nameOf(family)} -t nat ${rule}`);
      if (options.transparent) {
        for (const route of ROUTES) say(`ip ${flagOf(family)} ${route.join(' ').replace('?', 'add')}`);
      }
    }
    return exitCodes.fine;
  }
  for (const family of families) {
    const mangle = mangleRules(options, family);
    const before = saved(family, 'mangle');
    // Another mode may have left its own there.
    restore(family, mangle.length > 0 ? restoreInput('mangle', mangle, before) : removeInput('mangle', before));
    routes(family, 'del');
    if (mangle.length > 0) routes(family, 'add');
    restore(family, restoreInput('nat', natRules(options, family), saved(family, 'nat')));
  }
  if (families.includes('v6')) proxySource('add');
  return exitCodes.fine;
}

// ── iptables ──────────────────────────────────────────────────────────────────────────────────────────────────────

const nameOf = (family: Family): string => (family === 'v4' ? 'iptables' : 'ip6tables');

/** IPv6 where this network namespace has a global address of it, be its link up yet or not. */
function familiesHere(): Family[] {
  let addresses = '';
  try {
    addresses = readFileSync('/proc/net/if_inet6', 'utf8');
  } catch {
    // No IPv6 in this kernel.
  }
  // Address, interface, prefix, scope (0: global; the proxy's own ::6 is of another), flags, name.
  const isGlobal = (line: string): boolean => /^[0-9a-f]{32} \S+ \S+ 00 /.test(line) && !line.endsWith(' lo');
  return addresses.split('\n').some(isGlobal) ? ['v4', 'v6'] : ['v4'];
}

const TABLES = ['mangle', 'nat'] as const;
const flagOf = (family: Family): string => (family === 'v4' ? '-4' : '-6');
const shownName = (family: Family, table: Table): string =>
  table === 'nat' ? nameOf(family) : `${nameOf(family)} -t ${table}`;

function saved(family: Family, table: Table): string {
  return command(`${nameOf(family)}-save`, ['-t', table], undefined);
}

/** The rule and the table of routes of TPROXY. What is to go may never have been there. */
function routes(family: Family, what: 'add' | 'del'): void {
  for (const route of ROUTES) {
    const words = [flagOf(family), ...route.map((word) => (word === '?' ? what : word))];
    if (what === 'add') command('ip', words, undefined);
    else spawnSync('ip', words);
  }
}

/** One transaction: all of it, or nothing. */
function restore(family: Family, input: string): void {
  command(`${nameOf(family)}-restore`, ['--noflush', '-w', '10'], input);
}

/** The address from which the proxy calls the application; of IPv4 all of 127.0.0.0/8 is there already. */
function proxySource(what: 'add' | 'del'): void {
  try {
    command('ip', ['-6', 'addr', what, '::6/128', 'dev', 'lo'], undefined);
  } catch (error) {
    const done = /File exists|already assigned|Cannot assign requested address/;
    if (!(error instanceof CommandError) || !done.test(error.message)) throw error;
  }
}

function command(program: string, parameters: readonly string[], input: string | undefined): string {
  const done = spawnSync(program, parameters, { encoding: 'utf8', ...(input !== undefined && { input }) });
  if (done.error !== undefined) {
    const missing = (done.error as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = missing ? 'it is not installed (apt-get install iptables)' : done.error.message;
    throw new CommandError(exitCodes.failure, `Cannot run ${program}: ${reason}`);
  }
  if (done.status !== 0) {
    const reason = done.stderr.trim().split('\n').join('; ');
    const hint = /permission|Operation not permitted/i.test(reason) ? ' (NET_ADMIN and NET_RAW are needed)' : '';
    throw new CommandError(exitCodes.failure, `${program} failed: ${reason}${hint}`);
  }
  return done.stdout;
}
