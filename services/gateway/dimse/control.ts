import { echo } from '#dimse/scu.ts';
import { STATUS } from '#dimse/status.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN } from '../representation.ts';
import type { Commitments } from './commitment.ts';
import { conformanceStatement } from './conformance.ts';
import { dial } from './destination.ts';
import { peerOf, peersOf } from './policy.ts';
import { VERIFICATION } from './services.ts';
import type { Door, Session } from './session.ts';

/** What the CLI and the API ask of the DIMSE door. */
export function serveControl(
  context: Context,
  door: Door,
  commitments: Commitments,
  sessions: () => Session[],
  hosts: string[],
): void {
  const { settings } = context;
  context.serve(DimseService, {
    listPeers: async () => ({
      peers: peersOf(settings).map(({ aeTitle, host, port, services }) => ({
        aeTitle,
        host,
        port,
        services: [...services],
      })),
      acceptsUnknown: settings.boolean('dimse.acceptUnknown'),
      aeTitle: settings.string('dimse.aeTitle'),
      host: hosts.join(', '),
      port: door.port(),
    }),

    echo: async (call, { aeTitle }) => {
      const peer = peerOf(settings, aeTitle);
      if (peer === undefined) throw new GantryError('not-found', `${aeTitle} is not under peers: in gantry.yaml`);
      if (peer.host === '') throw new GantryError('failed-precondition', `${aeTitle} has no host: it only calls us`);
      const began = performance.now();
      const answer = (ok: boolean, detail: string) => ({ ok, detail, milliseconds: performance.now() - began });
      try {
        const association = await dial(
          settings,
          peer,
          [{ abstractSyntax: VERIFICATION, transferSyntaxes: [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN] }],
          call.signal,
        );
        try {
          const { status } = await echo(association);
          await association.release();
          return answer(status === STATUS.SUCCESS, `status ${status.toString(16).padStart(4, '0')}`);
        } finally {
          association.abort(); // harmless when it was released
        }
      } catch (error) {
        return answer(false, error instanceof Error ? error.message : 'failed');
      }
    },

    listAssociations: async (call) => ({
      associations: sessions()
        .filter((session) => session.call.tenant === call.tenant)
        .map(({ association, call: own, stored, since }) => ({
          id: own.requestId,
          callingAeTitle: association.callingAeTitle,
          calledAeTitle: association.calledAeTitle,
          address: association.peer.address,
          since,
          state: association.signal.aborted ? 'closing' : 'open',
          instances: stored.instances,
          bytes: stored.bytes,
        })),
    }),

    listCommitments: async (call) => ({ commitments: await commitments.list(call.tenant) }),
    conformance: async () => ({ markdown: conformanceStatement(settings) }),
  });
}
