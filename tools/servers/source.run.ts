// Says where the servers come from on this machine: docker or cache.
import { serversComeFrom } from './source.ts';

process.stdout.write(`${await serversComeFrom()}\n`);
