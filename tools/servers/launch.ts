// Where a server comes from: the official image where Docker can pull, else the program in the cache. Whoever starts one
// does not know which.
import { join } from 'node:path';
import { launchContainer } from './container.ts';
import { type LaunchedNode, launchProcess, type ServerSpec } from './node.ts';
import { ensureBuilt, type Part } from './parts.ts';
import { serversComeFrom } from './source.ts';

/** `program` is the name in the part's folder. */
export async function launch(part: Part, spec: ServerSpec): Promise<LaunchedNode> {
  if ((await serversComeFrom()) === 'docker') return launchContainer(spec);
  return launchProcess({ ...spec, program: join(await ensureBuilt(part), spec.program) });
}
