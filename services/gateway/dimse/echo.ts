import { STATUS } from '#dimse/status.ts';
import { audit, type Handler } from './session.ts';

/** C-ECHO (PS3.4 Annex A). */
export const echo: Handler = async (session, incoming) => {
  await session.association.respond(incoming, { status: STATUS.SUCCESS });
  audit(session, { event: 'Application Activity', action: 'E', outcome: 0, useCase: 'dimse.c-echo', objects: [] });
};
