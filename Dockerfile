# docker build -t pillion . ; docker run --read-only -p 15001:15001 -v ./mesh:/mesh:ro pillion run -c /mesh --outbound 0.0.0.0:15001
# No shell starts it: the flags below are what bin/pillion gives.
FROM node:26-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY cli cli
COPY config config
COPY filters filters
COPY proxy proxy
RUN npm run build
# What only building needs goes, the platform packages that bring Node included: the image has its own.
RUN npm prune --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund
# One start fills the module cache, which makes all others three times as fast. It is read-only afterwards.
COPY examples examples
ENV NODE_COMPILE_CACHE=/app/cache
RUN ["node", "--disable-warning=ExperimentalWarning", "dist/cli/main.js", "run", "-c", "examples/shop", "--outbound", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--status", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-level", "error", "--", "node", "dist/cli/main.js", "version"]

FROM node:26-slim
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/config/envoy/descriptors.binpb config/envoy/
COPY --from=build /app/dist dist
COPY --from=build /app/cache cache
ENV NODE_ENV=production
ENV NODE_COMPILE_CACHE=/app/cache
# Istio's user: its traffic is not intercepted.
USER 1337:1337
EXPOSE 15001 15006 15021 15090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["node", "--disable-warning=ExperimentalWarning", "/app/dist/cli/main.js", "healthcheck"]
ENTRYPOINT ["node", "--disable-warning=ExperimentalWarning", "--disable-sigusr1", "--max-semi-space-size=2", "--no-parallel-scavenge", "--max-old-space-size-percentage=50", "/app/dist/cli/main.js"]
CMD ["run"]
