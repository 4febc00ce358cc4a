/** The part of Dockerfile syntax that ours uses. An instruction that is not known here is refused, not skipped. */

export interface Instruction {
  readonly name: string;
  /** The words of an exec form (`["a", "b"]`), or the one text of a shell form. */
  readonly words: readonly string[];
  readonly isExec: boolean;
  /** `--from=build` as `from: build`. */
  readonly flags: Readonly<Record<string, string>>;
  readonly line: number;
}

export interface Stage {
  readonly base: string;
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

const KNOWN = new Set('WORKDIR COPY RUN ENV USER EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD'.split(' '));

/** ARG before the first FROM is known to what follows, with its default. @throws naming the line. */
export function parseDockerfile(text: string): Stage[] {
  const defaults = new Map<string, string>();
  const stages: { base: string; name: string | undefined; instructions: Instruction[] }[] = [];
  text.split('\n').forEach((raw, index) => {
    const content = raw.trim().replaceAll(/\$\{(\w+)\}/g, (written, name: string) => defaults.get(name) ?? written);
    if (content === '' || content.startsWith('#')) return;
    const line = index + 1;
    const space = content.indexOf(' ');
    const name = content.slice(0, space).toUpperCase();
    let rest = content.slice(space + 1).trim();
    if (name === 'ARG' && stages.length === 0) {
      const [variable = '', value = ''] = rest.split('=');
      defaults.set(variable, value);
      return;
    }
    if (name === 'FROM') {
      const [base = '', as, stage] = rest.split(/\s+/);
      stages.push({ base, name: as?.toUpperCase() === 'AS' ? stage : undefined, instructions: [] });
      return;
    }
    if (!KNOWN.has(name)) throw new Error(`Dockerfile:${line}: ${name} is not known to the replay`);
    const flags: Record<string, string> = {};
    for (let flag = /^--([a-z-]+)=(\S+)\s+/.exec(rest); flag !== null; flag = /^--([a-z-]+)=(\S+)\s+/.exec(rest)) {
      flags[flag[1] as string] = flag[2] as string;
      rest = rest.slice(flag[0].length);
    }
    const [first, ...others] = rest.split(/\s+/);
    if (name === 'HEALTHCHECK' && first === 'CMD') rest = rest.slice('CMD'.length).trim();
    const isExec = rest.startsWith('[');
    const words = isExec
      ? (JSON.parse(rest) as string[])
      : name === 'COPY' || name === 'EXPOSE'
        ? [first as string, ...others]
        : [rest];
    const stage = stages.at(-1);
    if (stage === undefined) throw new Error(`Dockerfile:${line}: ${name} before FROM`);
    stage.instructions.push({ name, words, isExec, flags, line });
  });
  return stages;
}
