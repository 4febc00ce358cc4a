/** `pillion version`. */
import { VERSION } from '../proxy/version.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { say } from './print.ts';

export function versionLine(): string {
  return `pillion ${VERSION} (Node ${process.versions.node})`;
}

/** @throws {CommandError} for an unknown output format. */
export function version(output: string): number {
  switch (output) {
    case 'text':
      say(versionLine());
      return exitCodes.fine;
    case 'json': {
      const { node, openssl } = process.versions;
      const istio = ['networking.istio.io/v1', 'networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3'];
      say(JSON.stringify({ version: VERSION, node, openssl, istio }));
      return exitCodes.fine;
    }
    default:
      throw new CommandError(exitCodes.usage, `-o wants text or json, got "${output}"`);
  }
}
