// One suite for every deployment. No scenario knows which one it runs on, or may assume an empty archive.
import { after, before, describe, test } from 'node:test';
import { committing } from './committing.ts';
import { deleting, purgeAll } from './deleting.ts';
import type { Deployment } from './deployment.ts';
import { doors } from './doors.ts';
import { finding } from './finding.ts';
import { oracles } from './oracles.ts';
import { retrieving } from './retrieving.ts';
import { openScene, type Scene } from './scene.ts';
import { storing } from './storing.ts';

/** `skip` is a reason, where what the deployment is made of is not here. */
export function scenarios(name: string, open: () => Promise<Deployment>, skip: string | false = false): void {
  describe(`scenarios: ${name}`, { skip, timeout: 15 * 60_000 }, () => {
    let deployment: Deployment;
    let scene: Scene;
    before(async () => {
      deployment = await open();
      scene = await openScene(deployment);
    });
    after(async () => {
      await scene?.close();
      await deployment?.close();
    });
    const the = () => scene;

    doors(the);
    storing(the);
    finding(the);
    retrieving(the);
    deleting(the);
    committing(the);
    oracles(the);
    test('what this run stored is taken back', () => purgeAll(scene));
  });
}
