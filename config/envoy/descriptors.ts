/** The protobuf descriptors of everything that Pillion reads in Envoy's form, loaded at first use (about 130 ms). */
import { existsSync, readFileSync } from 'node:fs';
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

let loaded: FileRegistry | undefined;

/** Import this module only where xDS or Envoy YAML is used: the protobuf library comes with it. */
export function descriptors(): FileRegistry {
  loaded ??= createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptorFile())));
  return loaded;
}

/** Beside this file, or, from dist/config/envoy, in the package that dist stands in. */
function descriptorFile(): URL {
  const beside = new URL('descriptors.binpb', import.meta.url);
  return existsSync(beside) ? beside : new URL('../../../config/envoy/descriptors.binpb', import.meta.url);
}
