/**
 * Preloaded into every test process: it ends when its exit event has been told. Node would go on to close what is left,
 * and waits for ever where a node:http2 server's sockets were reset under it (seen in Node 26.10: CleanupHandles).
 */
process.on('exit', (code) => process.exit(code));
