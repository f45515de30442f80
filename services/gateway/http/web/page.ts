import type { FastifyInstance } from 'fastify';
import { API } from '../api/api.ts';
import { DICOMWEB, originOf } from '../dicomweb/root.ts';

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** `/`: one small page that says where everything is. */
export function pageRoute(
  app: FastifyInstance,
  facts: () => Promise<{ aeTitle: string; dimseHost: string; dimsePort: number; open: boolean; viewer: boolean }>,
): void {
  app.get('/', { config: { useCase: null } }, async (request, reply) => {
    const { aeTitle, dimseHost, dimsePort, open, viewer } = await facts();
    const origin = originOf(request);
    const rows: [string, string, string][] = [
      [
        'See images',
        viewer ? `<a href="/viewer">/viewer</a>` : 'not set up: run <code>make setup</code>',
        'OHIF, on this archive',
      ],
      [
        'Send from a modality',
        `<code>${escapeHtml(aeTitle)}</code> at <code>${escapeHtml(dimseHost)}</code> port <code>${dimsePort}</code>`,
        'DICOM: C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET, storage commitment',
      ],
      [
        'DICOMweb',
        `<code>${escapeHtml(origin)}${DICOMWEB}</code>`,
        `QIDO-RS, WADO-RS, STOW-RS; <a href="${DICOMWEB}/studies?limit=10">the newest studies</a>`,
      ],
      ['WADO-URI', `<code>${escapeHtml(origin)}/wado</code>`, 'application/dicom'],
      [
        'Administration',
        `<code>${escapeHtml(origin)}${API}</code>`,
        `<a href="${API}/openapi.json">OpenAPI</a>, <a href="${API}/status">status</a>; on the command line: <code>npx gantry --help</code>`,
      ],
      [
        'Conformance statement',
        `<a href="${API}/conformance">${API}/conformance</a>`,
        'from the tables that this server runs on',
      ],
      [
        'Health',
        `<a href="/readyz">/readyz</a> <a href="/healthz">/healthz</a> <a href="/metrics">/metrics</a>`,
        'for Kubernetes and Prometheus',
      ],
    ];
    reply.header(
      'Content-Security-Policy',
      "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    );
    return reply.type('text/html; charset=utf-8').send(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Gantry</title>
<style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:58rem;margin:3rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}p{margin:.3rem 0 1.5rem;opacity:.75}table{border-collapse:collapse;width:100%}
td{padding:.6rem .8rem .6rem 0;border-top:1px solid color-mix(in srgb,currentColor 15%,transparent);vertical-align:top}
td:first-child{font-weight:600;white-space:nowrap}td:last-child{opacity:.75}code{font-size:.95em}
.note{border-left:.25rem solid #c80;padding:.2rem .8rem;opacity:1}
</style>
<h1>Gantry</h1><p>The image archive is running.</p>
${open ? '<p class="note">Nobody has to log in: whoever reaches this address can read and delete everything.</p>' : ''}
<table>${rows.map(([what, where, more]) => `<tr><td>${what}</td><td>${where}</td><td>${more}</td></tr>`).join('')}</table>
</html>
`);
  });
}
