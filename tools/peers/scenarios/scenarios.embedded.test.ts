// The scenario suite on one process with everything in it.
import { embedded } from './deployment.ts';
import { scenarios } from './scenarios.ts';

scenarios('embedded', embedded);
