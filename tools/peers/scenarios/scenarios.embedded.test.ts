// The scenario suite on one process with everything in it. Programs of others come in too (tools/setup/peers.ts).
import { embedded } from './deployment.ts';
import { scenarios } from './scenarios.ts';

scenarios('embedded', embedded);
