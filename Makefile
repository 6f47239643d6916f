# make                  build/ngx_http_bog_module.so, for Debian's nginx
# make NGINX_SRC=DIR    the same for the nginx whose source is in DIR
# make unit             the unit tests of the parts that know no nginx
# make test, make demo  see util/

NGINX_SRC =
NGINX_FLAGS = --with-compat --with-debug --with-http_ssl_module \
	--with-http_v2_module --with-http_auth_request_module
CC_OPT = -Wall -Wextra -Werror -Wno-unused-parameter
LD_OPT =

MODULE = build/ngx_http_bog_module.so
TREE = build/nginx
CC = cc

.PHONY: all test demo unit clean

all: $(MODULE)

$(MODULE): config $(wildcard src/*) $(TREE)/Makefile
	CC_OPT="$(CC_OPT)" $(MAKE) -C "$$(cat $(TREE)/source)" \
		-f $(CURDIR)/$(TREE)/Makefile modules
	cp $(TREE)/ngx_http_bog_module.so $@

$(TREE)/Makefile: config
	CC="$(CC)" CC_OPT="$(CC_OPT)" LD_OPT="$(LD_OPT)" \
		NGINX_FLAGS="$(NGINX_FLAGS)" \
		bash util/configure.sh "$(NGINX_SRC)" $(TREE)

test:
	sh util/test.sh

demo:
	sh util/demo.sh

unit: build/unit
	build/unit

clean:
	rm -rf build
