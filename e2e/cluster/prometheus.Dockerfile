# Debian's Prometheus, for tests on clusters without one. BASE_IMAGE must be Debian.
ARG BASE_IMAGE=debian:12-slim
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
USER 10001:10001
ENTRYPOINT ["/usr/bin/prometheus"]
