/** The protobuf descriptors of everything that Pillion reads in Envoy's form, loaded at first use (about 130 ms). */
import { existsSync, readFileSync } from 'node:fs';
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

/** 6 MB, used for moments: let go when nobody asked for a while. */
const KEEP_MS = 3000;
let loaded: FileRegistry | undefined;
let release: NodeJS.Timeout | undefined;

/** Import this module only where xDS or Envoy YAML is used: the protobuf library comes with it. */
export function descriptors(): FileRegistry {
  loaded ??= createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptorFile())));
  if (release === undefined) {
    release = setTimeout(() => {
      loaded = undefined;
      release = undefined;
    }, KEEP_MS).unref();
  } else release.refresh();
  return loaded;
}

/** Beside this file, or, from dist/config/envoy, in the package that dist stands in. */
function descriptorFile(): URL {
  const beside = new URL('descriptors.binpb', import.meta.url);
  return existsSync(beside) ? beside : new URL('../../../config/envoy/descriptors.binpb', import.meta.url);
}
