import { chooseContext, sendOne } from './destination.ts';
import { retrieve } from './retrieve.ts';
import type { Handler } from './session.ts';

/** C-GET (PS3.4 §C.4.3): sub-operations on the same association, on contexts where the caller is SCP by role selection. */
export const get: Handler = (session, incoming) => {
  const { association, call, door, peer } = session;
  return retrieve(session, incoming, {
    useCase: 'dimse.c-get',
    renditionPreference: peer?.renditionPreference ?? [],
    async send(instances, operations) {
      const contexts = [...association.contexts.values()].filter((context) => context.requestorScp);
      for (const instance of instances) {
        if (incoming.cancelSignal.aborted || door.ending.aborted) return;
        const options = { responseTimeoutMs: peer?.responseTimeoutMs };
        const chosen = chooseContext(contexts, instance);
        await operations.done(instance, await sendOne(association, door.reader, call, chosen, options));
      }
    },
  });
};
