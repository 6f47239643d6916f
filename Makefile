# make                  build/ngx_http_bog_module.so, for Debian's nginx
# make NGINX_SRC=DIR    the same for the nginx whose source is in DIR
# make nginx NGINX_SRC=DIR    and that nginx, build/nginx/nginx; with
#                       ADD=--add-module it has the module in it
# make unit             the unit tests of the parts that know no nginx
# make test, make demo  see util/
# make dist, make deb   a tarball; Debian's package

NGINX_SRC =
NGINX_FLAGS = --with-compat --with-debug --with-http_ssl_module \
	--with-http_v2_module --with-http_auth_request_module \
	--with-http_stub_status_module --with-http_addition_module \
	--with-http_slice_module --with-http_sub_module \
	--with-http_realip_module --with-threads \
	--with-poll_module --with-select_module
ADD = --add-dynamic-module
CC = cc
CC_OPT = -O2 -Wall -Wextra -Werror -Wno-unused-parameter
LD_OPT =

UNIT_CFLAGS = -std=gnu11 -g -O1 -fno-omit-frame-pointer \
	-fsanitize=address,undefined,float-cast-overflow \
	-fno-sanitize-recover=undefined,float-cast-overflow \
	-Wall -Wextra -Werror -Isrc/oauth
UNIT_LIBS = -Wl,--wrap=madvise,--wrap=munmap,--wrap=bog_pool_alloc \
	-lcmocka -ljansson -lcrypto

BUILD = build
MODULE = $(BUILD)/ngx_http_bog_module.so
TREE = $(BUILD)/nginx

# all that a configured tree depends on; a change of it configures anew
NGINX_H = $(or $(NGINX_SRC),$(BOG_DEBIAN)/usr/share/nginx/src)/src/core/nginx.h
SETTINGS = $(NGINX_SRC) $(BOG_DEBIAN) $(shell grep -s 'define NGINX_VERSION' $(NGINX_H)) \
	$(NGINX_FLAGS) $(ADD) $(CC) $(CC_OPT) $(LD_OPT) $(wildcard src/*/*)

.PHONY: all nginx test demo unit dist deb clean FORCE

all: $(MODULE)

$(MODULE): $(wildcard src/* src/*/*) $(TREE)/Makefile
	$(MAKE) -C "$$(cat $(TREE)/source)" \
		-f $(abspath $(TREE))/Makefile modules
	cp $(TREE)/ngx_http_bog_module.so $@.new
	mv $@.new $@

nginx: $(TREE)/Makefile
	$(MAKE) -C "$$(cat $(TREE)/source)" \
		-f $(abspath $(TREE))/Makefile binary

$(TREE)/Makefile: config util/configure.sh $(TREE)/settings \
		src/status/page.html
	CC='$(CC)' CC_OPT='$(CC_OPT)' LD_OPT='$(LD_OPT)' \
		NGINX_FLAGS='$(NGINX_FLAGS)' ADD='$(ADD)' \
		bash util/configure.sh '$(NGINX_SRC)' $(TREE)

$(TREE)/settings: FORCE
	@mkdir -p $(TREE)
	@echo '$(SETTINGS)' | cmp -s - $@ || echo '$(SETTINGS)' > $@

test:
	sh util/test.sh

demo:
	sh util/demo.sh

# cmocka 2 has other names for what cmocka 1 has
unit:
	mkdir -p $(BUILD)
	$(CC) $(UNIT_CFLAGS) -Wno-deprecated-declarations \
		-o $(BUILD)/unit t/unit/*.c src/oauth/*.c $(UNIT_LIBS)
	$(BUILD)/unit

dist:
	sh util/dist.sh

deb:
	sh util/deb.sh

clean:
	rm -rf build
